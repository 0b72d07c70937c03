"""Wide ResNet for images of 32x32 pixels (CIFAR)."""
from mmcv.cnn import build_norm_layer
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..layers.common import check, is_int
from .pre_activation import PreActivationNetwork
from .swap_conv import swap_conv


class WideBasicBlock(nn.Module):
    """Norm, ReLU, conv1, norm, ReLU, conv2; added to the input.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Of conv2, and of the shortcut's 1x1.
        conv2_cfg (dict): Type and options of conv2.
        norm_cfg (dict): Of the norms.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int,
                 conv2_cfg: dict, norm_cfg: dict) -> None:
        super().__init__()
        self.norm1 = build_norm_layer(norm_cfg, in_channels)[1]
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = build_norm_layer(norm_cfg, out_channels)[1]
        self.conv2 = swap_conv(
            nn.Conv2d(out_channels, out_channels, 3, stride, padding=1),
            conv2_cfg, norm_cfg)
        check(self.conv2.out_channels == out_channels, 'conv2_cfg', conv2_cfg,
              f'conv2 must give the {out_channels} channels of the shortcut, '
              f'not {self.conv2.out_channels}')
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(self.relu(self.norm1(x)))
        out = self.conv2(self.relu(self.norm2(out)))
        return out + self.shortcut(x)


@MODELS.register_module()
class CIFARWideResNet(PreActivationNetwork):
    """Wide ResNet with any convolution as conv2 of a block.

    Paper: Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016: WRN-28
    with widening factor 10. A row of SCConv's Table 2, whose counts (36.55M,
    5.96G) fix two details: the convolutions have biases, and it is conv2 that
    has a block's stride (at conv1, as published, it would be 5.25G). Without
    dropout.

    Args:
        depth (int): 6n + 4: 16, 22, 28, 40, ...
        widen_factor (int): Widths over 16, 32 and 64. Defaults to 10.
        conv2_cfg (dict): Type and options of the convolution, e.g.
            ``dict(type='SCConv')``. Defaults to the dense one.
        norm_cfg (dict): Defaults to BatchNorm.
        init_cfg (dict): See ``mmengine.model.BaseModule``.

    Shape: (N, 3, 32, 32) -> ((N, 64 * widen_factor, 8, 8), ).

    Raises:
        ValueError: For an option out of its range, or a convolution of
            another output width.
    """

    def __init__(self,
                 depth: int = 28,
                 widen_factor: int = 10,
                 conv2_cfg: dict | None = None,
                 norm_cfg: dict | None = None,
                 init_cfg: dict | list | None = None) -> None:
        super().__init__(init_cfg)
        check(
            is_int(depth, 10) and (depth - 4) % 6 == 0, 'depth', depth,
            '6n + 4, e.g. 28')
        check(
            is_int(widen_factor, 1), 'widen_factor', widen_factor,
            'an int >= 1')
        conv2_cfg = conv2_cfg or dict(type='Conv2d')
        norm_cfg = norm_cfg or dict(type='BN')
        stages = {}
        stem = nn.Conv2d(3, 16, 3, padding=1)
        width = 16
        for i in range(3):
            in_channels, width = width, 16 * 2**i * widen_factor
            blocks = [
                WideBasicBlock(in_channels if j == 0 else width, width,
                               2 if i and j == 0 else 1, conv2_cfg, norm_cfg)
                for j in range((depth - 4) // 6)
            ]
            stages[f'layer{i + 1}'] = nn.Sequential(*blocks)
        self.set_parts(stem, stages, norm_cfg, width)
