"""SCConv: Spatial and Channel reconstruction Convolution.

Paper: Li, Wen, He, "SCConv: Spatial and Channel Reconstruction Convolution
for Feature Redundancy", CVPR 2023. Not SCNet's *self-calibrated* convolution,
which some code bases also call SCConv.

    SCConv = SRU (which of the channels carry information, where?)
           -> CRU (rich features by convolution, the rest cheaply)

The paper leaves details open. They are chosen here so that the parameter and
FLOP counts equal those of its Tables 3 to 5 in every printed digit (see
``low_squeeze_base``). Inferred from the counts, not published: which of the
1x1 convolutions have a bias, where the inner BatchNorms stand, and that the
low branch and PWC1 are average-pooled where the convolution has a stride.
Defined here, as the paper has C channels in and out only: for ``in_channels !=
out_channels`` the SRU and the split work on the input's width; the low
branch's squeeze is taken from the output's width, so that its concatenation
always fits.

Plain PyTorch: ``mmdet_scconv.layers`` imports nothing else of this package.
"""
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .common import (
    DropInConv,
    IntOrPair,
    MeanFuse,
    check,
    check_choice,
    check_conv_geometry,
    check_divisor,
    check_fraction,
    check_unused,
    check_widths,
    is_hooked,
    is_int,
    stride_pool,
)
from .fused import DeployedSCConv, can_deploy, can_fuse, fused_scconv

LOW_SQUEEZE_BASES = ('out_channels', 'low_channels')
IMPLEMENTATIONS = ('fused', 'torch', 'reference')
UNITS = ('S+C', 'C+S', 'C&S', 'S', 'C')


class SRU(nn.Module):
    """Spatial reconstruction unit: separate by a gate, then cross-reconstruct.

    Source: SCConv, Section 3.1. GroupNorm's scale tells how much a channel
    varies; a position whose re-weighted value passes the threshold is kept
    unchanged in the informative part, and is 0 in the other one. Any other
    position is in both parts, multiplied by its weight. The halves of both
    parts are added crosswise.

    The logit is compared with the threshold, in float32 (float64 for
    float64), not the weight: as initialised, the weights differ from 0.5 by
    about 1e-3, which is lost when float16 or bfloat16 round the sigmoid.

    Args:
        in_channels (int): C, an even number.
        gn_groups (int): Groups of the GroupNorm; must divide C. The paper
            gives no number. Defaults to 16.
        gate_threshold (float): Between 0 and 1. Defaults to 0.5.

    Shape: (N, C, H, W) -> (N, C, H, W), of the input's dtype.

    Raises:
        ValueError: For an option out of its range.
    """

    # |sum(gamma)| is bounded below by this; as initialised it is C
    min_gamma_sum = 1e-5

    def __init__(self,
                 in_channels: int,
                 gn_groups: int = 16,
                 gate_threshold: float = 0.5) -> None:
        super().__init__()
        check(
            is_int(in_channels, 2) and in_channels % 2 == 0, 'in_channels',
            in_channels, 'SRU adds two halves and needs an even number')
        check_divisor('gn_groups', gn_groups, input=in_channels)
        check_fraction('gate_threshold', gate_threshold)
        self.gate_threshold = gate_threshold
        self.gn = nn.GroupNorm(gn_groups, in_channels)

    def gate_logits(self, x: Tensor) -> Tensor:
        """w_gamma * GN(x): what the paper puts into the sigmoid.

        Args:
            x (Tensor): (N, C, H, W), float32 or float64.
        """
        if is_hooked(self.gn):  # hooks run when the module is called
            g = self.gn(x.to(self.gn.weight.dtype)).to(x.dtype)
            return self.w_gamma(x.dtype).view(-1, 1, 1) * g
        # F.group_norm raises an error for a group of a single value
        return torch.group_norm(x, self.gn.num_groups,
                                *self.gate_affine(x.dtype), self.gn.eps)

    def gate_affine(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """GroupNorm's weight and bias with w_gamma multiplied in: (C, )."""
        w_gamma = self.w_gamma(dtype)
        return (w_gamma * self.gn.weight.to(dtype),
                w_gamma * self.gn.bias.to(dtype))

    def w_gamma(self, dtype: torch.dtype) -> Tensor:
        """The share of each channel's gamma in their sum: (C, )."""
        gamma = self.gn.weight.to(dtype)
        total = gamma.sum()
        # training may bring the sum near 0: bound the quotient, keep the sign
        total = torch.where(total < 0, total.clamp(max=-self.min_gamma_sum),
                            total.clamp(min=self.min_gamma_sum))
        return gamma / total

    @property
    def gate_logit_threshold(self) -> float:
        return math.log(self.gate_threshold / (1 - self.gate_threshold))

    def separate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The informative part W1 * x and the non-informative part W2 * x.

        Args:
            x (Tensor): (N, C, H, W), float32 or float64.
        """
        logits = self.gate_logits(x)
        informative = logits > self.gate_logit_threshold
        weights = torch.sigmoid(logits)
        return (torch.where(informative, 1, weights) * x,
                torch.where(informative, 0, weights) * x)

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = self.separate(x.to(torch.promote_types(x.dtype,
                                                        torch.float32)))
        x11, x12 = x1.chunk(2, dim=1)
        x21, x22 = x2.chunk(2, dim=1)
        return torch.cat([x11 + x22, x12 + x21], dim=1).to(x.dtype)

    def extra_repr(self) -> str:
        return f'gate_threshold={self.gate_threshold}'


class CRU(nn.Module):
    """Channel reconstruction unit: split, transform, fuse.

    Source: SCConv, Section 3.2. The first ``alpha`` of the channels (up) are
    squeezed and convolved (group-wise, GWC, plus point-wise, PWC1); the rest
    (low) are squeezed and completed by a point-wise convolution (PWC2). A
    softmax over the two means of each channel weights their sum.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        kernel_size (int | tuple): Odd size of the GWC. Defaults to 3.
        stride (int | tuple): Of the GWC; the point-wise parts get pooled
            input (ceil mode, so that odd sizes fit). Defaults to 1.
        padding (int | tuple | str): "Same" padding. Defaults to 'same'.
        dilation (int | tuple): Of the GWC. Defaults to 1.
        alpha (float): Share of the input channels that go up, between 0 and
            1. Defaults to 0.5.
        squeeze_ratio (int): r, by which both squeezes narrow. Defaults to 2.
        gwc_groups (int): Groups of the GWC. Defaults to 2.
        low_squeeze_base (str): What is divided by r to get the width of the
            squeezed low branch: 'out_channels', hence C/r, gives the counts
            of Tables 3 to 5; 'low_channels', hence (1-alpha)C/r, is the
            formula of the paper's text and gives Table 2's. Defaults to
            'out_channels'.
        norm_layer (Callable): Called with a number of channels, returns the
            norm layer. Defaults to ``nn.BatchNorm2d``.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride),
    ceil(W / stride)).

    Raises:
        ValueError: For an option out of its range, or widths that leave a
            part without channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair = 3,
        stride: IntOrPair = 1,
        padding: str | IntOrPair = 'same',
        dilation: IntOrPair = 1,
        alpha: float = 0.5,
        squeeze_ratio: int = 2,
        gwc_groups: int = 2,
        low_squeeze_base: str = 'out_channels',
        norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        kernel_size, stride, padding, dilation = check_conv_geometry(
            kernel_size, stride, padding, dilation)
        check_widths(in_channels, out_channels)
        check(is_int(squeeze_ratio, 1), 'squeeze_ratio', squeeze_ratio,
              'an int >= 1')
        check_fraction('alpha', alpha)
        self.up_channels = round(alpha * in_channels)
        self.low_channels = in_channels - self.up_channels
        up_width = self.up_channels // squeeze_ratio
        check(
            up_width >= 1, 'alpha', alpha,
            f'of {in_channels} input channels at least '
            f'squeeze_ratio={squeeze_ratio} must go up')
        check_divisor('gwc_groups', gwc_groups, squeezed=up_width,
                      output=out_channels)
        check_choice('low_squeeze_base', low_squeeze_base, LOW_SQUEEZE_BASES)
        low_squeezed = out_channels // squeeze_ratio
        if low_squeeze_base == 'low_channels':
            low_squeezed = (out_channels -
                            round(alpha * out_channels)) // squeeze_ratio
        check(
            1 <= low_squeezed < out_channels, 'squeeze_ratio', squeeze_ratio,
            f'the low branch is squeezed to {low_squeezed} channels, between '
            f'1 and {out_channels - 1} are possible with '
            f'out_channels={out_channels}, alpha={alpha}, '
            f'low_squeeze_base={low_squeeze_base!r}')

        self.fuse = MeanFuse()
        self.pool = stride_pool(stride)
        self.squeeze_up = nn.Conv2d(self.up_channels, up_width, 1)
        self.squeeze_up_bn = norm_layer(up_width)
        self.squeeze_low = nn.Conv2d(self.low_channels, low_squeezed, 1)
        self.squeeze_low_bn = norm_layer(low_squeezed)
        # The norms of the sum Y1 and of the concatenation Y2 stand before
        # the convolutions: tools that fuse "a conv and the norm after it"
        # (mmcv's fuse_conv_bn) must not find a conv before them.
        self.bn1 = norm_layer(out_channels)
        self.bn2 = norm_layer(out_channels)
        self.gwc = nn.Conv2d(
            up_width,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups=gwc_groups,
            bias=False)
        self.pwc1 = nn.Conv2d(up_width, out_channels, 1, bias=False)
        self.pwc2 = nn.Conv2d(low_squeezed, out_channels - low_squeezed, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.reference(*self.split(x))

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The parts that go up and low."""
        return x.split([self.up_channels, self.low_channels], dim=1)

    def reference(self, up: Tensor, low: Tensor) -> Tensor:
        """The definition, of the split input."""
        up = self.squeeze_up_bn(self.squeeze_up(up))
        y1 = self.bn1(self.gwc(up) + self.pwc1(self.pool(up)))
        low = self.squeeze_low_bn(self.squeeze_low(self.pool(low)))
        y2 = self.bn2(torch.cat([self.pwc2(low), low], dim=1))
        return self.fuse(y1, y2)


class SCConv(DropInConv):
    """SRU then CRU, with the signature of ``nn.Conv2d``.

    ``units`` are the combinations of Table 1. The paper does not say what a
    lone SRU is followed by (the dense convolution here, as the table's
    parameters require), nor how parallel units are joined (their outputs are
    added here; where there is a stride, the SRU gets pooled input).

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation,
            groups, bias: See :class:`DropInConv`; ``in_channels`` must be
            even.
        units (str): 'S+C', SRU then CRU; 'C+S', CRU then SRU; 'C&S', both in
            parallel; 'S', SRU and a dense convolution; 'C', CRU alone.
            Defaults to 'S+C'.
        alpha, squeeze_ratio, gwc_groups, low_squeeze_base, norm_layer: See
            :class:`CRU`.
        gn_groups, gate_threshold: See :class:`SRU`.
        implementation (str): 'fused' does the same with fewer passes over
            memory (fused/ has a table of what runs when), by compiled kernels
            where they fit the input; 'torch' is the same without kernels of
            GPUs; 'reference' is the definition. The definition also runs
            where a submodule has hooks or parametrizations, for empty inputs,
            and for units other than 'S+C'. Defaults to 'fused'.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride),
    ceil(W / stride)).

    Raises:
        ValueError: For an option out of its range; names the argument, the
            value and what is allowed.
    """

    has_inner_norms = True
    deployed = False  # read by the function that chooses kernels

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
        units: str = 'S+C',
        alpha: float = 0.5,
        squeeze_ratio: int = 2,
        gwc_groups: int = 2,
        gn_groups: int = 16,
        gate_threshold: float = 0.5,
        low_squeeze_base: str = 'out_channels',
        norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
        implementation: str = 'fused',
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride,
                         padding, dilation, groups, bias)
        check_choice('implementation', implementation, IMPLEMENTATIONS)
        self.implementation = implementation
        check_choice('units', units, UNITS)
        if 'C' not in units:
            check_unused(f'units={units!r} has no CRU', alpha=(alpha, 0.5),
                         squeeze_ratio=(squeeze_ratio, 2),
                         gwc_groups=(gwc_groups, 2),
                         low_squeeze_base=(low_squeeze_base, 'out_channels'))
        if 'S' not in units:
            check_unused(f'units={units!r} has no SRU',
                         gn_groups=(gn_groups, 16),
                         gate_threshold=(gate_threshold, 0.5))
        check(units != 'C&S' or in_channels == out_channels, 'units', units,
              f'with in_channels={in_channels} and out_channels='
              f'{out_channels} the outputs of parallel units do not fit')
        check(units != 'C+S' or out_channels % 2 == 0, 'out_channels',
              out_channels, 'the SRU behind needs an even number')
        self.units = units
        if 'S' in units:
            self.sru = SRU(out_channels if units == 'C+S' else in_channels,
                           gn_groups, gate_threshold)
        if 'C' in units:
            self.cru = CRU(
                in_channels,
                out_channels,
                self.kernel_size,
                self.stride,
                self.padding,
                self.dilation,
                alpha=alpha,
                squeeze_ratio=squeeze_ratio,
                gwc_groups=gwc_groups,
                low_squeeze_base=low_squeeze_base,
                norm_layer=norm_layer)
        if units == 'S':
            self.conv = self.inner_conv(in_channels, out_channels)
        if units == 'C&S':
            self.pool = stride_pool(self.stride)

    def forward(self, x: Tensor) -> Tensor:
        if can_fuse(self, x):
            out = fused_scconv(self, x)
        elif self.units == 'S+C':
            out = self.cru(self.sru(x))
        elif self.units == 'C+S':
            out = self.sru(self.cru(x))
        elif self.units == 'C&S':
            out = self.cru(x) + self.sru(self.pool(x))
        elif self.units == 'S':
            out = self.conv(self.sru(x))
        else:
            out = self.cru(x)
        return self.add_bias(out)

    def deploy(self, norm: nn.Module) -> nn.Module | None:
        """Return this layer and the BatchNorm behind it as one module, for
        inference.

        Returns:
            DeployedSCConv | None: Nothing where that is not possible: for
            other units than 'S+C', and norms other than BatchNorms in eval
            mode.
        """
        return DeployedSCConv(self, norm) if can_deploy(self, norm) else None

    def extra_repr(self) -> str:
        return f'units={self.units!r}'
