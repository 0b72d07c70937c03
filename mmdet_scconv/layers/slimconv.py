"""SlimConv: reducing channel redundancy by features recombining.

Paper: Qiu et al., "SlimConv: Reducing Channel Redundancy in Convolutional
Neural Networks by Features Recombining", IEEE TIP 2021.

    w = channel attention of x (k-independent)
    fold(w * x)       -> 3x3                ->  top       } concatenated:
    fold(flip(w) * x) -> 1x1 -> ReLU -> 3x3 ->  bottom    } C / k channels

The authors published k=4/3 alone; its counts are theirs to every digit. The
others are reconstructions: for k=8/3 the input is folded twice, which gives
the published 12.10M and 1.88G of a ResNet-50; for k=1 the bottom's 3x3 is
twice as wide, which gives 18.73M where SCConv's tables have 18.81M (-0.4%).
"""
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .common import DropInConv, GlobalMean, IntOrPair, check

# k: (parts that are added up, width of the bottom over that of the fold)
STRUCTURES = {'1': (2, 1.), '4/3': (2, 0.5), '8/3': (4, 0.5)}


def fold(x: Tensor, parts: int) -> Tensor:
    """Sum of equal channel parts: (N, C, H, W) -> (N, C / parts, H, W)."""
    return torch.stack(x.chunk(parts, dim=1)).sum(0)


class SlimConv(DropInConv):
    """Weigh channels by two mirrored attentions, fold, convolve both.

    **The output has ``out_channels / k`` channels** (attribute
    ``out_channels``), normalised already (``ends_with_norm``).

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation,
            groups, bias: See :class:`DropInConv`. The structure is defined
            for ``in_channels == out_channels`` only.
        k (str): '4/3', '8/3' or '1'. Defaults to '4/3'.
        norm_layer (Callable): Called with a number of channels, returns the
            norm layer. Defaults to ``nn.BatchNorm2d``. In training on a
            batch of one image the attention's uses its running statistics.

    Shape: (N, C, H, W) -> (N, C / k, ceil(H / stride), ceil(W / stride)).

    Raises:
        ValueError: For an option out of its range; names the argument, the
            value and what is allowed.
    """

    ends_with_norm = True
    attention_reduction = 32

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
        check(in_channels == out_channels, 'out_channels', out_channels,
              f'SlimConv is defined for in_channels={in_channels} alone')
        # a command line makes an int of k=1
        check(str(k) in STRUCTURES, 'k', k, f'one of {tuple(STRUCTURES)}')
        self.parts, bottom_ratio = STRUCTURES[str(k)]
        check(
            in_channels % (2 * self.parts) == 0, 'in_channels', in_channels,
            f'k={k!r} needs a multiple of {2 * self.parts}')
        top = in_channels // self.parts
        bottom = round(top * bottom_ratio)
        hidden = max(in_channels // self.attention_reduction, 1)
        self.set_out_channels(top + bottom)
        self.attention = nn.Sequential(
            GlobalMean(), nn.Conv2d(in_channels, hidden, 1, bias=False),
            norm_layer(hidden), nn.ReLU(),
            nn.Conv2d(hidden, in_channels, 1), nn.Sigmoid())
        self.top = nn.Sequential(self.inner_conv(top, top),
                                 norm_layer(top))
        self.bottom = nn.Sequential(
            nn.Conv2d(top, top // 2, 1, bias=False), norm_layer(top // 2),
            nn.ReLU(), self.inner_conv(top // 2, bottom), norm_layer(bottom))

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
