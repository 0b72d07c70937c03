"""Efficient convolutions, registered in mmengine's root registry.

Any MM library builds them by name, e.g. ``conv_cfg=dict(type='SCConv')``.
"""
from mmengine.registry import MODELS

from .ghostconv import GhostConv
from .octconv import OctConv
from .scconv import CRU, SRU, SCConv
from .slimconv import SlimConv
from .spconv import SPConv
from .tiedconv import TiedConv

for _layer in (SRU, CRU, SCConv, SPConv, SlimConv, GhostConv, TiedConv,
               OctConv):
    MODELS.register_module(module=_layer)

__all__ = [
    'CRU', 'GhostConv', 'OctConv', 'SCConv', 'SPConv', 'SRU', 'SlimConv',
    'TiedConv'
]
