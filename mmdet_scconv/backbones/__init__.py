from .swap_resnet import SwapResNet
from .zoo import SCConvResNet, SPConvResNet

__all__ = ['SCConvResNet', 'SPConvResNet', 'SwapResNet']
