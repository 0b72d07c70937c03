"""Max pooling in place of a convolution.

Paper: Han et al., "Learning Features with Parameter-Free Layers" (PfLayer),
ICLR 2022. A row of SCConv's Table 3.
"""
import torch.nn.functional as F
from torch import Tensor

from .common import DropInConv, IntOrPair, check


class PfLayer(DropInConv):
    """The maximum of each channel under the kernel; no parameters.

    The norm behind it is left out, as in the paper (``ends_with_norm``). A
    ReLU after it may stay: it changes nothing if another one precedes the
    layer.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation,
            groups, bias: See :class:`DropInConv`. Both widths must be equal.

    Shape: (N, C, H, W) -> (N, C, ceil(H / stride), ceil(W / stride)).

    Raises:
        ValueError: For an option out of its range; names the argument, the
            value and what is allowed.
    """

    ends_with_norm = True

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
        check(in_channels == out_channels, 'out_channels', out_channels,
              f'a pooling keeps the width, in_channels={in_channels}')

    def forward(self, x: Tensor) -> Tensor:
        # Not with MaxPool's own padding, which ends at half of the kernel
        # and is too small with a dilation.
        height, width = self.padding
        x = F.pad(x, (width, width, height, height), value=float('-inf'))
        return self.add_bias(
            F.max_pool2d(
                x, self.kernel_size, self.stride, dilation=self.dilation))
