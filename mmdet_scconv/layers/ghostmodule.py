"""The Ghost module with a point-wise primary convolution, in place of a 3x3.

Paper: Han et al., "GhostNet: More Features From Cheap Operations", CVPR 2020.
In GhostNet itself the primary convolution of every Ghost module is 1x1. Put in
place of a 3x3 alone, with the norm behind it kept, this module gives the
counts of SCConv's Table 2 for GhostNet-R56 and GhostNet-D121.
:class:`GhostConv`, whose primary convolution has the kernel of the one that it
replaces, gives those of Table 3.
"""
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .common import DropInConv, IntOrPair, check_divisor


class GhostModule(DropInConv):
    """1x1 convolution, then a depth-wise one that adds the "ghosts".

    Each of the two has a norm and a ReLU, as in GhostNet.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation,
            groups, bias: See :class:`DropInConv`. The depth-wise convolution
            has the kernel and the dilation, the 1x1 the stride.
        ratio (int): s, the output's width over the primary part's; must
            divide ``out_channels``. Defaults to 2.
        norm_layer (Callable): Called with a number of channels, returns the
            norm layer. Defaults to ``nn.BatchNorm2d``.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride),
    ceil(W / stride)).

    Raises:
        ValueError: For an option out of its range; names the argument, the
            value and what is allowed.
    """

    has_inner_norms = True

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
        ratio: int = 2,
        norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride,
                         padding, dilation, groups, bias)
        check_divisor('ratio', ratio, minimum=2, output=out_channels)
        primary = out_channels // ratio
        ghosts = out_channels - primary
        self.primary = nn.Sequential(
            nn.Conv2d(in_channels, primary, 1, self.stride, bias=False),
            norm_layer(primary), nn.ReLU())
        self.cheap = nn.Sequential(
            nn.Conv2d(
                primary,
                ghosts,
                self.kernel_size,
                padding=self.padding,
                dilation=self.dilation,
                groups=primary,
                bias=False), norm_layer(ghosts), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        primary = self.primary(x)
        return self.add_bias(torch.cat([primary, self.cheap(primary)], dim=1))
