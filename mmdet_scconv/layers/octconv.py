"""Octave convolution: part of the channels at half the resolution.

Paper: Chen et al., "Drop an Octave: Reducing Spatial Redundancy in
Convolutional Neural Networks with Octave Convolution", ICCV 2019. A row of
SCConv's Tables 2 and 3 (``alpha=0.5``).

Deviation: in the paper both resolutions run through the whole network. This
layer has one input and one output, as any convolution: the low part is pooled
at the beginning and upsampled at the end. So only the 3x3 convolutions of a
ResNet get cheaper (ResNet-50: 3.05 GMACs, published 2.40).
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .common import (
    DropInConv,
    IntOrPair,
    check,
    check_fraction,
    stride_pool,
)


class OctConv(DropInConv):
    """Four convolutions between a high and a low resolution part.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation,
            groups, bias: See :class:`DropInConv`. A stride is an average
            pooling of the input, as in the paper.
        alpha (float): Share of the channels at half the resolution, between
            0 and 1. Defaults to 0.5.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride),
    ceil(W / stride)).

    Raises:
        ValueError: For an option out of its range; names the argument, the
            value and what is allowed.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair = 1,
        padding: str | IntOrPair = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        alpha: float = 0.5,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride,
                         padding, dilation, groups, bias)
        check_fraction('alpha', alpha)
        low_in, low_out = (round(alpha * c) for c in (in_channels,
                                                      out_channels))
        check(
            0 < low_in < in_channels and 0 < low_out < out_channels, 'alpha',
            alpha, f'both parts need one of the {in_channels} input and of '
            f'the {out_channels} output channels')
        self.split = (in_channels - low_in, low_in)

        def conv(width_in: int, width_out: int) -> nn.Conv2d:
            return nn.Conv2d(
                width_in,
                width_out,
                self.kernel_size,
                padding=self.padding,
                dilation=self.dilation,
                bias=False)

        self.stride_pool = stride_pool(self.stride)
        self.octave_pool = stride_pool((2, 2))
        self.high_to_high = conv(self.split[0], out_channels - low_out)
        self.high_to_low = conv(self.split[0], low_out)
        self.low_to_high = conv(self.split[1], out_channels - low_out)
        self.low_to_low = conv(self.split[1], low_out)

    def forward(self, x: Tensor) -> Tensor:
        high, low = self.stride_pool(x).split(self.split, dim=1)
        size = high.shape[2:]
        low = self.octave_pool(low)
        to_high = self.high_to_high(high) + F.interpolate(
            self.low_to_high(low), size)
        to_low = self.high_to_low(self.octave_pool(high)) + \
            self.low_to_low(low)
        return self.add_bias(
            torch.cat([to_high, F.interpolate(to_low, size)], dim=1))
