"""ResNets for images of 32x32 pixels (CIFAR), with or without a swap."""
from mmcv.cnn import build_conv_layer
from mmdet.models.backbones import ResNeXt
from mmdet.models.backbones.resnet import BasicBlock
from mmdet.models.backbones.resnext import Bottleneck
from mmdet.registry import MODELS
from torch import nn

from ..layers.common import check
from .resnets import GhostResNet
from .swap_resnet import SwapResNet

# blocks of each of the three stages: depth 6n + 2
SMALL = {6 * n + 2: n for n in (3, 5, 7, 9, 18)}


class CIFARResNetMixin:
    """Stem and depths for CIFAR: a mixin for :class:`SwapResNet`.

    The stem is one 3x3 convolution without stride or pooling. Depth 20, 32,
    44, 56 and 110 are the networks of He et al., "Deep Residual Learning",
    CVPR 2016, Section 4.2: three stages of BasicBlocks, 16, 32 and 64 wide
    (their shortcuts are 1x1 convolutions). Other depths are ImageNet's. Only
    the last stage is returned, unless ``out_indices`` says otherwise.

    Args:
        depth (int): 20, 32, 44, 56, 110; 18, 34, 50, 101, 152.
        **kwargs: Arguments of the backbone except ``deep_stem``.

    Raises:
        ValueError: For ``deep_stem=True``.
    """

    arch_settings = {
        **SwapResNet.arch_settings,
        **{depth: (BasicBlock, (n, ) * 3) for depth, n in SMALL.items()}
    }

    def __init__(self, depth: int, **kwargs) -> None:
        options = dict(out_indices=(3, ))
        if depth in SMALL:
            options = dict(
                base_channels=16,
                num_stages=3,
                strides=(1, 2, 2),
                dilations=(1, 1, 1),
                out_indices=(2, ))
        super().__init__(depth, **{**options, **kwargs})

    def _make_stem_layer(self, in_channels: int, stem_channels: int) -> None:
        check(not self.deep_stem, 'deep_stem', self.deep_stem,
              "CIFAR's stem is one convolution")
        super()._make_stem_layer(in_channels, stem_channels)
        self.conv1 = build_conv_layer(
            self.conv_cfg,
            in_channels,
            stem_channels,
            kernel_size=3,
            padding=1,
            bias=False)
        self.maxpool = nn.Identity()


@MODELS.register_module()
class CIFARResNet(CIFARResNetMixin, SwapResNet):
    """ResNet for CIFAR with any convolution as conv2, e.g.
    ``conv2_cfg=dict(type='SCConv')``; the dense one by default.

    See :class:`CIFARResNetMixin` and :class:`SwapResNet`.

    Shape: (N, 3, 32, 32) -> ((N, 64, 8, 8), ) for depth 6n + 2,
    ((N, 2048, 4, 4), ) for depth 50 and more.
    """

    def __init__(self,
                 depth: int,
                 conv2_cfg: dict | None = None,
                 **kwargs) -> None:
        super().__init__(
            depth, conv2_cfg=conv2_cfg or dict(type='Conv2d'), **kwargs)


@MODELS.register_module()
class CIFARGhostResNet(CIFARResNetMixin, GhostResNet):
    """:class:`GhostResNet` for CIFAR; see :class:`CIFARResNetMixin`."""


@MODELS.register_module()
class CIFARResNeXt(CIFARResNetMixin, SwapResNet, ResNeXt):
    """ResNeXt-29 for CIFAR with any convolution as conv2.

    Paper: Xie et al., "Aggregated Residual Transformations for Deep Neural
    Networks", CVPR 2017, Section 5.3: three stages of three blocks. Only the
    dense convolution has these groups; a convolution that replaces it has
    none.

    Args:
        depth (int): 29.
        conv2_cfg (dict): As of :class:`CIFARResNet`.
        groups (int): Cardinality. Defaults to 5.
        base_width (int): Width of a group in the first stage. Defaults to
            64.
        **kwargs: As of :class:`CIFARResNet`.

    Shape: (N, 3, 32, 32) -> ((N, 1024, 8, 8), ).
    """

    arch_settings = {29: (Bottleneck, (3, 3, 3))}

    def __init__(self,
                 depth: int = 29,
                 conv2_cfg: dict | None = None,
                 groups: int = 5,
                 base_width: int = 64,
                 **kwargs) -> None:
        options = dict(
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=(2, ))
        super().__init__(
            depth,
            conv2_cfg=conv2_cfg or dict(type='Conv2d'),
            groups=groups,
            base_width=base_width,
            **{**options, **kwargs})

    def convs_to_swap(self, block: nn.Module) -> dict[str, dict]:
        dense = self.conv2_cfg['type'] == 'Conv2d'
        return {'conv2': {} if dense else dict(groups=1)}
