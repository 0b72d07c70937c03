from .cifar import CIFARGhostResNet, CIFARResNet
from .swap_resnet import SwapResNet
from .zoo import (
    GhostResNet,
    OctConvResNet,
    SCConvResNet,
    SCConvResNeXt,
    SlimConvResNet,
    SPConvResNet,
    TiedConvResNet,
)

__all__ = [
    'CIFARGhostResNet', 'CIFARResNet', 'GhostResNet', 'OctConvResNet',
    'SCConvResNeXt', 'SCConvResNet', 'SPConvResNet', 'SlimConvResNet',
    'SwapResNet', 'TiedConvResNet'
]
