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

__all__ = [
    'CIFARGhostResNet', 'CIFARResNet', 'GhostResNet', 'OctConvResNet',
    'SCConvResNeXt', 'SCConvResNet', 'SPConvResNet', 'SlimConvResNet',
    'SwapResNet', 'TiedConvResNet'
]
