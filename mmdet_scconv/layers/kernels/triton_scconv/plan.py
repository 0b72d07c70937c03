"""Sizes of maps, blocks and grids: what the launches follow from."""
from functools import cached_property, lru_cache
from operator import attrgetter

import torch
from torch import Tensor
from triton import cdiv

from ..parameters import Options, Parameters, SRUOptions
from .device import gate_gradient, squeeze
from .launch import Launch, map_strides, power_of_2

dtype_of = attrgetter('dtype')

# sum(gamma) is kept above it, see SRU.min_gamma_sum
MIN_GAMMA_SUM = 1e-5
MOMENT_BLOCKS = 128


class SRUPlan:
    """The launches of the SRU for one size of input, made once: those that do
    not depend on what comes behind it.

    Args:
        shape (tuple): N, C, H, W.
        channels_last (bool): Layout of x, of the output and of dx.
        options (SRUOptions | Options): See there.
    """

    def __init__(self, shape, channels_last: bool,
                 options: SRUOptions | Options) -> None:
        self.n, self.channels, self.height, self.width = shape
        self.channels_last, self.options = channels_last, options
        self.pixels = self.height * self.width
        self.strides = map_strides(self.channels, self.pixels, channels_last)
        self.even = 2 * options.up_channels == self.channels
        # Block sizes, warps and stages: the best of those measured on an H200,
        # bfloat16, channels_last, ResNet-50's maps of an 800x1344 image.
        self.narrow = self.channels <= 64
        self.half_block = power_of_2(self.channels // 2, high=64)
        self.half_tiles = cdiv(self.channels // 2, self.half_block)
        self.pixel_blocks = cdiv(self.pixels, 64)
        self.gate_blocks = min(self.pixel_blocks, max(64, 528 // self.n))
        block = max(8, min(64, 4096 // power_of_2(self.channels)))
        self.moment_block = block
        self.moment_blocks = min(cdiv(self.pixels, block), MOMENT_BLOCKS)

    @property
    def moments_size(self) -> int:
        return self.n * self.moment_blocks * 3 * self.options.gn_groups

    @cached_property
    def moments(self) -> Launch:
        groups = self.options.gn_groups
        return Launch(
            squeeze.moments_kernel, (self.moment_blocks, self.n),
            (self.channels, self.pixels, *self.strides),
            4 if self.narrow else 2, GROUPS=groups,
            CP=power_of_2(self.channels), GP=power_of_2(groups, 1),
            BP=self.moment_block)

    @cached_property
    def group_sums(self) -> Launch:
        groups = self.options.gn_groups
        width = power_of_2(self.channels // groups, 1)
        return Launch(
            gate_gradient.group_sums_kernel, (groups, self.n),
            (self.channels, self.pixels, self.gate_blocks), GROUPS=groups,
            WP=width, BB=max(1, min(128, 4096 // width)))

    @property
    def sums_sizes(self) -> tuple[int, int, int]:
        """Of the arrays that :attr:`group_sums` reads and writes: sums of
        each block, of each channel, means of each group."""
        return (self.n * self.gate_blocks * 2 * self.channels,
                self.n * 2 * self.channels,
                self.n * 2 * self.options.gn_groups)


class Plan(SRUPlan):
    """The launches of an SCConv; what the forward and the backward pass share
    of them.

    Args:
        shape (tuple): N, C, H, W.
        channels_last (bool): Layout of x, of the output and of dx.
        gradient_channels_last (bool): Layout of dY.
        dtype (torch.dtype): Of the squeezed maps and the output.
        widths (tuple): Of the output, up, low, and PWC2's output.
        gwc_strides (tuple): Of the GWC's weight.
        options (Options): See there.
        deployed (bool): Norms are folded, one behind the output is applied.
    """

    def __init__(self, shape, channels_last: bool,
                 gradient_channels_last: bool, dtype: torch.dtype, widths,
                 gwc_strides, options: Options, deployed: bool) -> None:
        super().__init__(shape, channels_last, options)
        self.out_channels, self.up, self.low, self.rest = widths
        self.dtype, self.deployed = dtype, deployed
        self.gwc_strides = gwc_strides
        self.out_height, self.out_width = (
            cdiv(size, stride)
            for size, stride in zip(shape[2:], options.stride))
        self.outputs = self.out_height * self.out_width
        self.out_strides = map_strides(self.out_channels, self.outputs,
                                       channels_last)
        self.gradient_strides = map_strides(self.out_channels, self.outputs,
                                            gradient_channels_last)
        names = ('KH', 'KW', 'SH', 'SW', 'PH', 'PW', 'DH', 'DW')
        self.geometry = dict(zip(names, (
            *options.kernel, *options.stride, *options.padding,
            *options.dilation)))
        self.taps = options.kernel[0] * options.kernel[1]
        self.rows = power_of_2(self.taps + 1)
        self.size = (self.height, self.width, self.out_height, self.out_width)
        # as cuDNN's convolutions: TF32 where it is allowed
        allowed = (dtype != torch.float32
                   or torch.backends.cudnn.allow_tf32)
        self.precision = dict(PRECISION='tf32' if allowed else 'ieee')
        self.squeeze_block = max(16, min(64 if self.narrow else 32,
                                         8192 // power_of_2(self.low)))
        # two programs or more for each of an H100's 132 multiprocessors
        self.squeeze_blocks = min(cdiv(self.pixels, self.squeeze_block),
                                  max(66, 264 // self.n))

    def squeeze(self, first: bool) -> Launch:
        """SRU and squeezes; the backward pass does them again."""
        options = self.options
        # the sums over what the taps see, which the first writes, are all
        # that depends on the geometry: one compiled form for every stride
        geometry = self.geometry if first else dict.fromkeys(self.geometry, 1)
        return Launch(
            squeeze.squeeze_kernel,
            (self.squeeze_blocks if first else cdiv(
                self.pixels, self.squeeze_block), self.n),
            (*self.size, options.up_channels, self.up, self.low,
             self.moment_blocks, *self.strides, options.gn_eps,
             options.up_eps, options.low_eps, options.threshold),
            8 if first and self.channels > 256 else 4, 1,
            C=self.channels, **geometry,
            ROWS=self.rows,
            GROUPS=options.gn_groups, GP=power_of_2(options.gn_groups, 1),
            RAW=not self.deployed, MIN_SUM=MIN_GAMMA_SUM,
            NORM=not self.deployed, FIRST=first, EVEN=self.even,
            **self.precision, CP=power_of_2(self.channels),
            UP=power_of_2(self.up), TP=power_of_2(self.low),
            BP=self.squeeze_block,
            BK=min(self.half_block, 64 if self.channels <= 128 else 32),
            BB=MOMENT_BLOCKS)


def k_blocks(channels: int, name: str) -> dict:
    """Block sizes of a grouped convolution's contraction."""
    block = power_of_2(channels, 1, 64)
    return {'BK': max(32, block), name: block}


@lru_cache(maxsize=512)
def make_plan(kind: type, *args, key):
    """A plan for arguments that may differ in ``key``, too: what compiled
    kernels depend on."""
    return kind(*args)


def plan_of(kind: type[Plan], x: Tensor, channels_last: bool,
            dtype: torch.dtype, p: Parameters, options: Options,
            deployed: bool, gradient_channels_last: bool = True) -> Plan:
    """The plan, forward or backward, for an input and an SCConv.

    It is looked up, as making it takes longer than a small kernel runs.
    """
    key = (x.device, x.dtype, torch.backends.cudnn.allow_tf32,
           *map(dtype_of, p))
    return make_plan(
        kind, tuple(x.shape), channels_last, gradient_channels_last, dtype,
        (p.gwc.shape[0], p.up_weight.shape[0], p.low_weight.shape[0],
         p.pwc2.shape[0]), p.gwc.stride(), options, deployed, key=key)
