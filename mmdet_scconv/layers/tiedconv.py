"""Tied block convolution: one thin filter bank for all blocks of channels.

Paper: Wang and Yu, "Tied Block Convolution: Leaner and Better CNNs with
Shared Thinner Filters", AAAI 2021. A row of SCConv's Tables 2 and 3
(``blocks=2``).
"""
from torch import Tensor

from .common import DropInConv, IntOrPair, check_divisor


class TiedConv(DropInConv):
    """A group-wise convolution whose groups share their weights.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation,
            groups, bias: See :class:`DropInConv`.
        blocks (int): B, the number of channel blocks; must divide both
            widths. Defaults to 2.

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
        blocks: int = 2,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride,
                         padding, dilation, groups, bias)
        check_divisor('blocks', blocks, input=in_channels,
                      output=out_channels)
        self.blocks = blocks
        self.conv = self.inner_conv(in_channels // blocks,
                                    out_channels // blocks)

    def forward(self, x: Tensor) -> Tensor:
        # the blocks as images of a larger batch
        out = self.conv(
            x.reshape(-1, self.in_channels // self.blocks, *x.shape[2:]))
        return self.add_bias(
            out.reshape(-1, self.out_channels, *out.shape[2:]))
