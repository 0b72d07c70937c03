"""The backbones by name: one line a convolution."""
from mmdet.registry import MODELS
from torch import nn

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


@MODELS.register_module()
class SlimConvResNet(SwapResNet):
    """ResNet with SlimConv in place of conv2 (TIP 2021); depth 50 and more.

    ``conv2_cfg`` holds options of :class:`mmdet_scconv.layers.SlimConv`; the
    detection tables of SCConv have ``dict(k='1')``. conv3 takes the width
    that ``k`` leaves.
    """

    conv2_type = 'SlimConv'


@MODELS.register_module()
class GhostResNet(SwapResNet):
    """ResNet of Ghost modules (GhostNet, CVPR 2020), stem excepted.

    ``conv2_cfg`` holds options of :class:`mmdet_scconv.layers.GhostConv`,
    which replaces every convolution of a block, the shortcut's too.
    """

    conv2_type = 'GhostConv'

    def convs_to_swap(self, block: nn.Module) -> dict[str, dict]:
        names = [n for n in ('conv1', 'conv2', 'conv3') if hasattr(block, n)]
        swaps = {name: dict(relu=name != names[-1]) for name in names}
        if block.downsample is not None:
            swaps['downsample'] = dict(relu=False)
        return swaps


@MODELS.register_module()
class TiedConvResNet(SwapResNet):
    """ResNet with tied block convolutions as conv2 (AAAI 2021).

    ``conv2_cfg`` holds options of :class:`mmdet_scconv.layers.TiedConv`.
    """

    conv2_type = 'TiedConv'


@MODELS.register_module()
class OctConvResNet(SwapResNet):
    """ResNet with octave convolutions as conv2 (ICCV 2019).

    ``conv2_cfg`` holds options of :class:`mmdet_scconv.layers.OctConv`; only
    conv2 is replaced, unlike in the paper's OctResNet.
    """

    conv2_type = 'OctConv'
