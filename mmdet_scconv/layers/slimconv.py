"""SlimConv: reducing channel redundancy by features recombining.

Paper: Qiu et al., "SlimConv: Reducing Channel Redundancy in Convolutional
Neural Networks by Features Recombining", IEEE TIP 2021.

    w = channel attention of x (k-independent)
    fold(w * x)       -> 3x3                ->  top       } concatenated:
    fold(flip(w) * x) -> 1x1 -> ReLU -> 3x3 ->  bottom    } C / k channels

The authors published only k=4/3; the counts here equal theirs in every digit.
The others are reconstructions: for k=8/3 the input is folded twice, which
gives the published 12.10M and 1.88G of a ResNet-50; for k=1 the bottom's 3x3
is twice as wide and the attention narrows by 16 instead of 32, which gives the
published 0.60M, 16.78M, 25.00M and 5.97M of four networks of SCConv's Table 2,
and 18.80M where its other tables have 18.81M. Defined here, as the paper has
one width C: for ``in_channels != out_channels`` both foldings are of the
input, and the two 3x3 give their shares of the output's width.
"""
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .common import DropInConv, GlobalMean, IntOrPair, check

# k: (parts that are added up, width of the bottom over that of the top,
#     reduction of the attention)
STRUCTURES = {'1': (2, 1., 16), '4/3': (2, 0.5, 32), '8/3': (4, 0.5, 32)}


def fold(x: Tensor, parts: int) -> Tensor:
    """Sum of equal channel parts: (N, C, H, W) -> (N, C / parts, H, W)."""
    return torch.stack(x.chunk(parts, dim=1)).sum(0)


class SlimConv(DropInConv):
    """Weigh channels by two mirrored attentions, fold, convolve both.

    **The output has ``out_channels / k`` channels** (attribute
    ``out_channels``), normalised already (``ends_with_norm``).

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation,
            groups, bias: See :class:`DropInConv`.
        k (str): '4/3', '8/3' or '1'. Defaults to '4/3'.
        norm_layer (Callable): Called with a number of channels, returns the
            norm layer. Defaults to ``nn.BatchNorm2d``. In training on a
            batch of one image the attention's uses its running statistics.

    Shape: (N, in_channels, H, W) -> (N, out_channels / k, ceil(H / stride),
    ceil(W / stride)).

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
        k: str = '4/3',
        norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride,
                         padding, dilation, groups, bias)
        # a command line makes an int of k=1
        check(str(k) in STRUCTURES, 'k', k, f'one of {tuple(STRUCTURES)}')
        self.parts, bottom_ratio, reduction = STRUCTURES[str(k)]
        for name, width in (('in_channels', in_channels), ('out_channels',
                                                           out_channels)):
            check(width % (2 * self.parts) == 0, name, width,
                  f'k={k!r} needs a multiple of {2 * self.parts}')
        folded = in_channels // self.parts
        squeezed = folded // 2
        top = out_channels // self.parts
        bottom = round(top * bottom_ratio)
        hidden = max(in_channels // reduction, 1)
        self.set_out_channels(top + bottom)
        self.attention = nn.Sequential(
            GlobalMean(), nn.Conv2d(in_channels, hidden, 1, bias=False),
            norm_layer(hidden), nn.ReLU(),
            nn.Conv2d(hidden, in_channels, 1), nn.Sigmoid())
        self.top = nn.Sequential(
            self.inner_conv(folded, top), norm_layer(top))
        self.bottom = nn.Sequential(
            nn.Conv2d(folded, squeezed, 1, bias=False), norm_layer(squeezed),
            nn.ReLU(), self.inner_conv(squeezed, bottom), norm_layer(bottom))

    def attend(self, x: Tensor) -> Tensor:
        """Weights of the channels: (N, C, H, W) -> (N, C, 1, 1)."""
        norm = self.attention[2]
        # the type first: an export with a dynamic batch must not ask for len
        if not (isinstance(norm, nn.BatchNorm2d) and norm.training
                and norm.track_running_stats and len(x) == 1):
            return self.attention(x)
        # The pooled values of a single image have no batch statistics (a last
        # incomplete batch would end the training). SyncBN has those of the
        # other processes.
        hidden = F.batch_norm(
            self.attention[:2](x), norm.running_mean, norm.running_var,
            norm.weight, norm.bias, eps=norm.eps)
        return self.attention[3:](hidden)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.attend(x)
        top = self.top(fold(weights * x, self.parts))
        bottom = self.bottom(fold(weights.flip(1) * x, self.parts))
        return self.add_bias(torch.cat([top, bottom], dim=1))
