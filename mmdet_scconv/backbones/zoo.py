"""The backbones by name: one line a convolution."""
from mmdet.registry import MODELS

from .swap_resnet import SwapResNet


@MODELS.register_module()
class SCConvResNet(SwapResNet):
    """ResNet with SCConv in place of conv2 (SCConv, CVPR 2023).

    ``conv2_cfg`` holds options of :class:`mmdet_scconv.layers.SCConv`, e.g.
    ``dict(alpha=0.75)``.
    """

    conv2_type = 'SCConv'


@MODELS.register_module()
class SPConvResNet(SwapResNet):
    """ResNet with SPConv in place of conv2 (Split to be Slim, IJCAI 2020).

    ``conv2_cfg`` holds options of :class:`mmdet_scconv.layers.SPConv`; the
    detection tables of SCConv have ``dict(alpha=0.75)``.
    """

    conv2_type = 'SPConv'
