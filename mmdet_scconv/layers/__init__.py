"""Efficient convolutions, registered in mmengine's root registry.

Any MM library builds them by name, e.g. ``conv_cfg=dict(type='SCConv')``.
"""
from mmengine.registry import MODELS

from .scconv import CRU, SRU, SCConv
from .spconv import SPConv

for _layer in (SRU, CRU, SCConv, SPConv):
    MODELS.register_module(module=_layer)

__all__ = ['CRU', 'SCConv', 'SPConv', 'SRU']
