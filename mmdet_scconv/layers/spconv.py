"""SPConv: Split to be Slim, a convolution of two unequal parts.

Paper: Zhang et al., "Split to be Slim: An Overlooked Redundancy in Vanilla
Convolution", IJCAI 2020. The predecessor of SCConv's CRU, and a row of its
Tables 2 to 5 (``alpha=0.75`` in the detection tables).

One deviation from the authors' code: with a stride the pooling is done in ceil
mode, so that odd sizes fit (the authors' code raises an error for them).
"""
from collections.abc import Callable

from torch import Tensor, nn

from .common import (
    DropInConv,
    IntOrPair,
    MeanFuse,
    check,
    check_divisor,
    check_fraction,
    stride_pool,
)


class SPConv(DropInConv):
    """Split, convolve the representative part, pass the rest cheaply, fuse.

    The first ``alpha`` of the channels are convolved group-wise (GWC) and
    point-wise (PWC) and summed; the rest point-wise alone. A softmax over the
    two means of each channel weights their sum.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation,
            groups, bias: See :class:`DropInConv`. The GWC has the stride,
            the point-wise parts get average-pooled input.
        alpha (float): Share of the input channels that are representative,
            between 0 and 1. Defaults to 0.5.
        gwc_groups (int): Groups of the GWC. Defaults to 2.
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
        alpha: float = 0.5,
        gwc_groups: int = 2,
        norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride,
                         padding, dilation, groups, bias)
        check_fraction('alpha', alpha)
        big = round(alpha * in_channels)
        check(
            0 < big < in_channels, 'alpha', alpha,
            f'both parts need one of the {in_channels} input channels')
        check_divisor('gwc_groups', gwc_groups, representative=big,
                      output=out_channels)
        self.split = (big, in_channels - big)
        self.fuse = MeanFuse()
        self.pool = stride_pool(self.stride)
        # before the convolutions, as in CRU: fuse_conv_bn must not fuse the
        # norm of the sum into one of its terms
        self.bn1 = norm_layer(out_channels)
        self.gwc = self.inner_conv(big, out_channels, gwc_groups)
        self.pwc = nn.Conv2d(big, out_channels, 1, bias=False)
        self.conv1x1 = nn.Conv2d(in_channels - big, out_channels, 1)
        self.bn2 = norm_layer(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        big, small = x.split(self.split, dim=1)
        y1 = self.bn1(self.gwc(big) + self.pwc(self.pool(big)))
        y2 = self.bn2(self.conv1x1(self.pool(small)))
        return self.add_bias(self.fuse(y1, y2))
