"""OctResNet: a ResNet whose features have two resolutions.

Paper: Chen et al., "Drop an Octave: Reducing Spatial Redundancy in
Convolutional Neural Networks with Octave Convolution", ICCV 2019. A row of
SCConv's Tables 2 and 3 (``alpha=0.5``).
"""
import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmdet.models.backbones import ResNet
from mmdet.models.backbones.resnet import Bottleneck
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..errors import FrozenWeightsError
from ..layers.common import check, check_fraction, stride_pool
from .cifar import CIFARResNetMixin

# the maps at full resolution, and those at half of it, if there are any
Octaves = tuple[Tensor, Tensor | None]


class OctaveUnit(nn.Module):
    """Octave convolution and the norms of both parts of its output.

    Source: Section 3.2 of the paper. A stride is an average pooling of the
        input, as is the step from high to low. From low to high, the output of
        the convolution is upsampled (nearest).

    Args:
        in_channels (tuple): Channels of the high and the low part of the
            input; the low ones may be 0.
        out_channels (tuple): The same of the output.
        kernel_size (int): An odd number.
        stride (int): 1 or 2.
        norm_cfg (dict): Of the norms.
    """

    def __init__(self, in_channels: tuple[int, int],
                 out_channels: tuple[int, int], kernel_size: int, stride: int,
                 norm_cfg: dict) -> None:
        super().__init__()

        def conv(width_in: int, width_out: int) -> nn.Conv2d:
            return nn.Conv2d(
                width_in,
                width_out,
                kernel_size,
                padding=kernel_size // 2,
                bias=False)

        (high_in, low_in), (high_out, low_out) = in_channels, out_channels
        self.stride_pool = stride_pool((stride, stride))
        self.octave_pool = stride_pool((2, 2))
        self.norm_high = build_norm_layer(norm_cfg, high_out)[1]
        self.norm_low = build_norm_layer(norm_cfg, low_out)[1]
        self.high_to_high = conv(high_in, high_out)
        self.high_to_low = conv(high_in, low_out)
        if low_in:
            self.low_to_high = conv(low_in, high_out)
            self.low_to_low = conv(low_in, low_out)

    def forward(self, high: Tensor, low: Tensor | None) -> Octaves:
        high = self.stride_pool(high)
        to_high = self.high_to_high(high)
        to_low = self.high_to_low(self.octave_pool(high))
        if low is not None:
            low = self.stride_pool(low)
            to_high = to_high + F.interpolate(
                self.low_to_high(low), to_high.shape[2:])
            to_low = to_low + self.low_to_low(low)
        return self.norm_high(to_high), self.norm_low(to_low)


class OctaveBottleneck(nn.Module):
    """ResNet's Bottleneck of octave convolutions, also in the shortcut.

    Args:
        in_channels (tuple): Channels of the high and the low part.
        planes (int): Channels of the 3x3, both parts together; the output has
            four times as many.
        stride (int): Of the 3x3.
        alpha (float): Share of the channels that are low.
        norm_cfg (dict): Of the norms.
    """

    def __init__(self, in_channels: tuple[int, int], planes: int, stride: int,
                 alpha: float, norm_cfg: dict) -> None:
        super().__init__()
        low = round(alpha * planes)
        inner = (planes - low, low)
        self.out_channels = (4 * inner[0], 4 * inner[1])
        self.conv1 = OctaveUnit(in_channels, inner, 1, 1, norm_cfg)
        self.conv2 = OctaveUnit(inner, inner, 3, stride, norm_cfg)
        self.conv3 = OctaveUnit(inner, self.out_channels, 1, 1, norm_cfg)
        self.downsample = None
        if stride != 1 or in_channels != self.out_channels:
            self.downsample = OctaveUnit(in_channels, self.out_channels, 1,
                                         stride, norm_cfg)

    def forward(self, octaves: Octaves) -> Octaves:
        shortcut = octaves
        if self.downsample is not None:
            shortcut = self.downsample(*octaves)
        out = self.conv1(*octaves)
        out = self.conv2(*map(F.relu, out))
        out = self.conv3(*map(F.relu, out))
        return tuple(F.relu(x + y) for x, y in zip(out, shortcut))


@MODELS.register_module()
class OctResNet(ResNet):
    """ResNet of octave convolutions, also the 1x1; depth 50, 101 or 152.

    The stem and the last stage are those of MMDetection's ResNet, as in the
    paper. Before the last stage, and in the outputs, the low part is upsampled
    (nearest) and appended to the high part. The paper upsamples after the
    first 1x1 of that stage; the 727M FLOPs of SCConv's Table 2 result only if
    it is done before.

    In :class:`OctConvResNet` only the 3x3 convolutions work in two
    resolutions; all others take a dense ResNet's weights.

    Args:
        depth (int): 50, 101 or 152.
        alpha (float): Share of the channels at half the resolution, between
            0 and 1. Defaults to 0.5.
        **kwargs: Arguments of ``mmdet.ResNet``, with their meaning there,
            except those that change blocks: ``dilations``, ``style``, ``dcn``,
            ``plugins``, ``avg_down``, ``with_cp``.

    Shape: (N, 3, H, W) -> tuple of the stages in ``out_indices``, as
    ``mmdet.ResNet``.

    Raises:
        ValueError: For an option out of its range.
    """

    # whether a checkpoint was loaded
    _loaded = False

    def __init__(self, depth: int, alpha: float = 0.5, **kwargs) -> None:
        check_fraction('alpha', alpha)
        super().__init__(depth, **kwargs)
        check(self.block is Bottleneck, 'depth', depth,
              '50, 101 or 152: octave blocks are Bottlenecks')
        check(self.num_stages == 4, 'num_stages', self.num_stages, 4)
        for name, value, default in (
            ('dilations', tuple(self.dilations), (1, 1, 1, 1)),
            ('style', self.style, 'pytorch'), ('dcn', self.dcn, None),
            ('plugins', self.plugins, None), ('avg_down', self.avg_down,
                                              False),
            ('with_cp', self.with_cp, False)):
            check(value == default, name, value, f'only {default!r} is built')
        width = (self.stem_channels, 0)
        for i, name in enumerate(self.res_layers[:-1]):
            planes = self.base_channels * 2**i
            check(0 < round(alpha * planes) < planes, 'alpha', alpha,
                  f'both parts need one of {planes} channels')
            blocks = []
            for j in range(self.stage_blocks[i]):
                blocks.append(
                    OctaveBottleneck(width, planes,
                                     self.strides[i] if j == 0 else 1, alpha,
                                     self.norm_cfg))
                width = blocks[-1].out_channels
            setattr(self, name, nn.Sequential(*blocks))
        # ResNet froze its stages before the new ones were built
        self._freeze_stages()

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self._loaded = True
        super()._load_from_state_dict(*args, **kwargs)

    def train(self, mode: bool = True) -> nn.Module:
        """As ResNet's.

        Raises:
            FrozenWeightsError: If a training would freeze random weights, or
                norms without statistics; no dense network has any for them.
        """
        super().train(mode)
        frozen = self.frozen_stages >= 0 or self.norm_eval
        if mode and self.is_init and frozen and not self._loaded:
            raise FrozenWeightsError(
                f'frozen_stages={self.frozen_stages}, '
                f'norm_eval={self.norm_eval} of {type(self).__name__} freeze '
                'random weights or statistics: no checkpoint was loaded. Set '
                'frozen_stages=-1, norm_eval=False in model.backbone')
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        if self.deep_stem:
            x = self.stem(x)
        else:
            x = self.relu(self.norm1(self.conv1(x)))
        octaves = self.maxpool(x), None
        outs = []
        for i, name in enumerate(self.res_layers):
            stage = getattr(self, name)
            if i < len(self.res_layers) - 1:
                octaves = stage(octaves)
                high, low = octaves
                x = torch.cat([high, F.interpolate(low, high.shape[2:])], 1)
            else:
                x = stage(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)


@MODELS.register_module()
class CIFAROctResNet(CIFARResNetMixin, OctResNet):
    """:class:`OctResNet` for CIFAR; see :class:`CIFARResNetMixin`."""
