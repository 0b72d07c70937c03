from .cifar import CIFARGhostResNet, CIFARResNet, CIFARResNeXt
from .densenet import CIFARDenseNet
from .oct_resnet import CIFAROctResNet, OctResNet
from .resnets import (
    GhostResNet,
    OctConvResNet,
    PfLayerResNet,
    SCConvResNet,
    SCConvResNeXt,
    SlimConvResNet,
    SPConvResNet,
    TiedConvResNet,
    VersatileConvResNet,
)
from .swap_resnet import SwapResNet
from .swapped import build_swapped, swap_convs
from .swapped_module import SwappedModule
from .wide_resnet import CIFARWideResNet

__all__ = [
    'CIFARDenseNet', 'CIFARGhostResNet', 'CIFAROctResNet', 'CIFARResNeXt',
    'CIFARResNet', 'CIFARWideResNet', 'GhostResNet', 'OctConvResNet',
    'OctResNet', 'PfLayerResNet', 'SCConvResNeXt', 'SCConvResNet',
    'SPConvResNet', 'SlimConvResNet', 'SwapResNet', 'SwappedModule',
    'TiedConvResNet', 'VersatileConvResNet', 'build_swapped', 'swap_convs'
]
