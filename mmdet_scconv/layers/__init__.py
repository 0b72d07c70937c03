"""Efficient convolutions, in plain PyTorch.

``mmdet_scconv.registry`` registers them in MMEngine's root registry, where it
is installed.
"""
from .ghostconv import GhostConv
from .octconv import OctConv
from .scconv import CRU, SRU, SCConv
from .slimconv import SlimConv
from .spconv import SPConv
from .tiedconv import TiedConv

__all__ = [
    'CRU', 'GhostConv', 'OctConv', 'SCConv', 'SPConv', 'SRU', 'SlimConv',
    'TiedConv'
]
