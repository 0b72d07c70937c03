from .cifar import CIFARGhostResNet, CIFARResNet
from .resnets import (
    GhostResNet,
    OctConvResNet,
    SCConvResNet,
    SCConvResNeXt,
    SlimConvResNet,
    SPConvResNet,
    TiedConvResNet,
)
from .swap_resnet import SwapResNet
from .swapped import build_swapped, swap_convs
from .swapped_module import SwappedModule

__all__ = [
    'CIFARGhostResNet', 'CIFARResNet', 'GhostResNet', 'OctConvResNet',
    'SCConvResNeXt', 'SCConvResNet', 'SPConvResNet', 'SlimConvResNet',
    'SwapResNet', 'SwappedModule', 'TiedConvResNet', 'build_swapped',
    'swap_convs'
]
