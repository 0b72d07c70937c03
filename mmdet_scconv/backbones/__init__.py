from .swap_resnet import SwapResNet
from .zoo import (
    GhostResNet,
    OctConvResNet,
    SCConvResNet,
    SlimConvResNet,
    SPConvResNet,
    TiedConvResNet,
)

__all__ = [
    'GhostResNet', 'OctConvResNet', 'SCConvResNet', 'SPConvResNet',
    'SlimConvResNet', 'SwapResNet', 'TiedConvResNet'
]
