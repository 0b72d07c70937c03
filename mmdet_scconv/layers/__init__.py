"""Efficient convolutions, in plain PyTorch.

``mmdet_scconv.registry`` registers them in MMEngine's root registry, where it
is installed.
"""
from .ghostconv import GhostConv
from .ghostmodule import GhostModule
from .octconv import OctConv
from .pflayer import PfLayer
from .scconv import CRU, SRU, SCConv
from .slimconv import SlimConv
from .spconv import SPConv
from .tiedconv import TiedConv
from .versatileconv import VersatileConv

__all__ = [
    'CRU', 'GhostConv', 'GhostModule', 'OctConv', 'PfLayer', 'SCConv',
    'SPConv', 'SRU', 'SlimConv', 'TiedConv', 'VersatileConv'
]
