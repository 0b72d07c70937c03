"""DenseNet for images of 32x32 pixels (CIFAR)."""
import torch
from mmcv.cnn import build_norm_layer
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..layers.common import check, is_int
from .pre_activation import PreActivationNetwork
from .swap_conv import swap_conv

# layers of each of the four dense blocks
BLOCKS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}


class DenseLayer(nn.Module):
    """Norm, ReLU, 1x1, norm, ReLU, 3x3; concatenated with the input.

    Args:
        in_channels (int): Channels of the input.
        growth_rate (int): k, the channels that are added. The 1x1 gives 4k.
        conv2_cfg (dict): Type and options of the 3x3.
        norm_cfg (dict): Of the norms.
    """

    def __init__(self, in_channels: int, growth_rate: int, conv2_cfg: dict,
                 norm_cfg: dict) -> None:
        super().__init__()
        width = 4 * growth_rate
        self.norm1 = build_norm_layer(norm_cfg, in_channels)[1]
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.norm2 = build_norm_layer(norm_cfg, width)[1]
        self.conv2 = swap_conv(
            nn.Conv2d(width, growth_rate, 3, padding=1, bias=False),
            conv2_cfg, norm_cfg)
        self.relu = nn.ReLU()
        self.out_channels = in_channels + self.conv2.out_channels

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(self.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(self.relu(self.norm2(out)))], dim=1)


@MODELS.register_module()
class CIFARDenseNet(PreActivationNetwork):
    """DenseNet-BC with the depths for ImageNet and any convolution as 3x3.

    Paper: Huang et al., "Densely Connected Convolutional Networks", CVPR 2017,
    Table 1; a row of SCConv's Table 2. The stem is one 3x3 convolution without
    stride or pooling, as in :class:`CIFARResNet`.

    Args:
        depth (int): 121, 169 or 201.
        growth_rate (int): k. Defaults to 32.
        conv2_cfg (dict): Type and options of the 3x3 of each dense layer,
            which has 4k input and k output channels. Defaults to the dense
            one.
        norm_cfg (dict): Defaults to BatchNorm.
        init_cfg (dict): See ``mmengine.model.BaseModule``.

    Shape: (N, 3, 32, 32) -> ((N, 1024, 4, 4), ) for depth 121.

    Raises:
        ValueError: For an option out of its range.
    """

    def __init__(self,
                 depth: int = 121,
                 growth_rate: int = 32,
                 conv2_cfg: dict | None = None,
                 norm_cfg: dict | None = None,
                 init_cfg: dict | list | None = None) -> None:
        super().__init__(init_cfg)
        check(depth in BLOCKS, 'depth', depth, f'one of {tuple(BLOCKS)}')
        check(is_int(growth_rate, 1), 'growth_rate', growth_rate,
              'an int >= 1')
        conv2_cfg = conv2_cfg or dict(type='Conv2d')
        norm_cfg = norm_cfg or dict(type='BN')
        width = 2 * growth_rate
        stages = {}
        stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        for i, length in enumerate(BLOCKS[depth]):
            layers = []
            if i:  # transition: half of the channels, half of the size
                layers = [
                    build_norm_layer(norm_cfg, width)[1],
                    nn.ReLU(),
                    nn.Conv2d(width, width // 2, 1, bias=False),
                    nn.AvgPool2d(2)
                ]
                width //= 2
            for _ in range(length):
                layer = DenseLayer(width, growth_rate, conv2_cfg, norm_cfg)
                width = layer.out_channels
                layers.append(layer)
            stages[f'block{i + 1}'] = nn.Sequential(*layers)
        self.set_parts(stem, stages, norm_cfg, width)
