from .swap_resnet import SwapResNet
from .zoo import SCConvResNet

__all__ = ['SCConvResNet', 'SwapResNet']
