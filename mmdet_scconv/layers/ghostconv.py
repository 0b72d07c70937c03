"""Ghost module: half of the features from cheap operations on the others.

Paper: Han et al., "GhostNet: More Features From Cheap Operations", CVPR 2020.
In a ResNet it replaces every convolution of a block, the 1x1 too; a row of
SCConv's Tables 2 and 3 (``ratio=2``).
"""
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .common import DropInConv, IntOrPair, check, check_divisor, to_pair


class GhostConv(DropInConv):
    """Primary convolution, then a depth-wise one that adds the "ghosts".

    The paper's module has its ReLU on both parts. Here the one behind the
    layer is left to the block, as with ``nn.Conv2d``; ``relu`` sets what the
    ghosts are made from.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation,
            groups, bias: See :class:`DropInConv`.
        ratio (int): s, the output's width over the primary part's; must
            divide ``out_channels``. Defaults to 2.
        dw_size (int | tuple): d, the odd kernel of the depth-wise
            convolution. Defaults to 3.
        relu (bool): Whether a ReLU follows the layer, hence also stands
            before the depth-wise convolution. Defaults to True.
        norm_layer (Callable): Called with a number of channels, returns the
            norm layer. Defaults to ``nn.BatchNorm2d``.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride),
    ceil(W / stride)), normalised already (``ends_with_norm``).

    Raises:
        ValueError: For an option out of its range; names the argument, the
            value and what is allowed.
    """

    ends_with_norm = True
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
        dw_size: IntOrPair = 3,
        relu: bool = True,
        norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride,
                         padding, dilation, groups, bias)
        check_divisor('ratio', ratio, minimum=2, output=out_channels)
        dw_pair = to_pair(dw_size, 'dw_size')
        check(all(d % 2 for d in dw_pair), 'dw_size', dw_size,
              'only odd sizes')
        check(isinstance(relu, bool), 'relu', relu, 'True or False')
        primary = out_channels // ratio
        ghosts = out_channels - primary
        self.primary = nn.Sequential(
            self.inner_conv(in_channels, primary), norm_layer(primary))
        self.act = nn.ReLU() if relu else nn.Identity()
        self.cheap = nn.Sequential(
            nn.Conv2d(
                primary,
                ghosts,
                dw_pair,
                padding=tuple(d // 2 for d in dw_pair),
                groups=primary,
                bias=False), norm_layer(ghosts))

    def forward(self, x: Tensor) -> Tensor:
        primary = self.primary(x)
        ghosts = self.cheap(self.act(primary))
        return self.add_bias(torch.cat([primary, ghosts], dim=1))
