"""Versatile filters: each filter is used at several sizes.

Paper: Wang et al., "Learning Versatile Filters for Efficient Convolutional
Neural Networks", NeurIPS 2018, Section 3.1 (spatial versatile filters). A row
of SCConv's Table 3.
"""
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .common import DropInConv, IntOrPair, check


class VersatileConv(DropInConv):
    """Primary filters, and secondary ones that are their centre crops.

    A filter of 3x3 gives two output channels: one by all of its weights, one
    by the middle one alone. So half as many filters are stored as there are
    output channels; a 5x5 gives three.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation,
            groups, bias: See :class:`DropInConv`. The number of crops,
            ``(min(kernel_size) + 1) / 2``, must divide ``out_channels``.

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
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride,
                         padding, dilation, groups, bias)
        self.num_crops = (min(self.kernel_size) + 1) // 2
        check(
            out_channels % self.num_crops == 0, 'out_channels', out_channels,
            f'a multiple of {self.num_crops}, the number of outputs that a '
            f'filter of {self.kernel_size} gives')
        self.weight = nn.Parameter(
            torch.empty(out_channels // self.num_crops, in_channels,
                        *self.kernel_size))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as nn.Conv2d

    def crops(self) -> list[Tensor]:
        """The primary filters, then the secondary ones by falling size; each
        (out_channels / num_crops, in_channels, kH, kW)."""
        height, width = self.kernel_size
        return [
            self.weight[:, :, i:height - i, i:width - i]
            for i in range(self.num_crops)
        ]

    def forward(self, x: Tensor) -> Tensor:
        outs = []
        for i, weight in enumerate(self.crops()):
            padding = [p - i * d for p, d in zip(self.padding, self.dilation)]
            outs.append(
                F.conv2d(x, weight, None, self.stride, padding,
                         self.dilation))
        return self.add_bias(torch.cat(outs, dim=1))
