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
    'GhostResNet', 'OctConvResNet', 'SCConvResNeXt', 'SCConvResNet',
    'SPConvResNet', 'SlimConvResNet', 'SwapResNet', 'TiedConvResNet'
]
