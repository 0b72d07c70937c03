"""SCConv with running statistics on a GPU: 5 kernels forward, 10 backward.

The definition is scconv.py; the kernels are in triton_kernels.py. With h the
SRU's output, cut in h_up and h_low:

    up, low = norm(squeeze_up h_up), norm(squeeze_low h_low)
    acc_1 = GWC(up) + PWC1(pooled up),  acc_2 = [PWC2(pooled low), pooled low]
    Y = beta_1 norm_1(acc_1) + beta_2 norm_2(acc_2)
      = A acc_1 + B acc_2 + D          (A, B, D of each sample and channel)

beta is a softmax over the means of both branches. As the norms are affine,
these means follow from sums of ``up`` over what each tap of the GWC sees, so
that neither branch is ever written to memory. The low branch is pooled behind
its squeeze, which commutes with it.

Backward, with G the product of dY and what the fuse's convolutions see (one
matrix for each sample, the gradient of their weights but for A and B):
``sum(dY acc_i) = <weights, G>``, so that neither acc_i has to be computed
again. ``up`` and ``low`` are computed again, not kept.
"""
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable
from triton import cdiv

from . import triton_kernels as kernels

MIN_GAMMA_SUM = 1e-5
MOMENT_BLOCKS = 128
TRAINED = ('gn_weight', 'gn_bias', 'up_weight', 'up_bias', 'up_gamma',
           'up_beta', 'low_weight', 'low_bias', 'low_gamma', 'low_beta',
           'gwc', 'pwc1', 'gamma1', 'beta1', 'pwc2', 'pwc2_bias', 'gamma2',
           'beta2')


class Parameters(NamedTuple):
    """The tensors of an SCConv in the order in which the kernels take them.

    A deployed one has its norms folded into the weights: ``*_beta`` are the
    folded biases then, the rest of the norms is not read.
    """

    gn_weight: Tensor
    gn_bias: Tensor
    up_weight: Tensor
    up_bias: Tensor
    up_gamma: Tensor
    up_beta: Tensor
    up_mean: Tensor
    up_var: Tensor
    low_weight: Tensor
    low_bias: Tensor
    low_gamma: Tensor
    low_beta: Tensor
    low_mean: Tensor
    low_var: Tensor
    gwc: Tensor
    pwc1: Tensor
    gamma1: Tensor
    beta1: Tensor
    mean1: Tensor
    var1: Tensor
    pwc2: Tensor
    pwc2_bias: Tensor
    gamma2: Tensor
    beta2: Tensor
    mean2: Tensor
    var2: Tensor

    @property
    def gate(self):
        return self[:2]

    @property
    def squeezes(self):
        return self[2:14]

    @property
    def fuse(self):
        return self[14:]


class Options(NamedTuple):
    """What the kernels take beside tensors and sizes."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    gwc_groups: int
    gn_groups: int
    up_channels: int
    gn_eps: float
    up_eps: float
    low_eps: float
    eps1: float
    eps2: float
    threshold: float

    def flat(self) -> tuple[list[int], list[float]]:
        """As an operator's schema has them."""
        return ([*self.kernel, *self.stride, *self.padding, *self.dilation,
                 *self[4:7]], list(self[7:]))

    @classmethod
    def of(cls, ints: list[int], floats: list[float]) -> 'Options':
        """From :meth:`flat`."""
        pairs = [tuple(ints[i:i + 2]) for i in range(0, 8, 2)]
        return cls(*pairs, *ints[8:], *floats)


def power_of_2(value: int, low: int = 16, high: int = 1 << 30) -> int:
    """The block size for ``value``: a power of 2 within bounds."""
    return min(high, max(low, triton.next_power_of_2(value)))


def is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


def dense(x: Tensor) -> Tensor:
    """A map that is contiguous in one of both layouts."""
    if is_channels_last(x) or x.is_contiguous():
        return x
    return x.contiguous(memory_format=torch.channels_last)


def map_strides(channels: int, pixels: int,
                channels_last: bool) -> tuple[int, int, int]:
    """Of samples, channels and pixels."""
    return (channels * pixels, *((1, channels) if channels_last else
                                 (pixels, 1)))


class Launch:
    """A kernel with all that does not change from call to call.

    Triton looks up anew in each call which compiled form fits the arguments,
    which takes longer than a small kernel runs. Here that is done once.

    Args:
        kernel: Takes tensors, then numbers, then constants.
        grid (tuple): Up to three sizes.
        numbers (tuple): Its arguments behind the tensors.
        warps (int): Of each program.
        stages (int): Of the loads' pipeline.
        constants: Its ``tl.constexpr`` arguments, by name.
    """

    def __init__(self, kernel, grid: tuple, numbers: tuple, warps: int = 4,
                 stages: int = 3, **constants) -> None:
        self.kernel, self.numbers = kernel, numbers
        self.options = dict(num_warps=warps, num_stages=stages)
        self.grid = (*grid, 1, 1)[:3]
        self.constants = constants
        self.runner = None

    def __call__(self, *tensors: Tensor) -> None:
        if self.runner is not None:
            self.runner(*tensors, *self.rest)
            return
        compiled = self.kernel[self.grid](
            *tensors, *self.numbers, **self.options, **self.constants)
        if compiled is not None:  # the interpreter returns nothing
            names = self.kernel.arg_names[-len(self.constants):]
            self.rest = (*self.numbers, *(self.constants[n] for n in names))
            self.runner = compiled[self.grid]


class Plan:
    """The launches for one size of input, made once.

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
        self.n, self.channels, self.height, self.width = shape
        self.out_channels, self.up, self.low, self.rest = widths
        self.options, self.dtype, self.deployed = options, dtype, deployed
        self.channels_last = channels_last
        self.gwc_strides = gwc_strides
        self.out_height, self.out_width = (
            cdiv(size, stride)
            for size, stride in zip(shape[2:], options.stride))
        self.pixels = self.height * self.width
        self.outputs = self.out_height * self.out_width
        self.strides = map_strides(self.channels, self.pixels, channels_last)
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
        self.even = 2 * options.up_channels == self.channels
        # as cuDNN's convolutions: TF32 where it is allowed
        allowed = (dtype != torch.float32
                   or torch.backends.cudnn.allow_tf32)
        self.precision = dict(PRECISION='tf32' if allowed else 'ieee')
        self.half_block = power_of_2(self.channels // 2, high=64)
        self.warps = 4 if self.half_block < 64 else 8
        # wide weights and what is loaded ahead do not fit in shared memory
        self.stages = 1 if self.channels > 128 else 2
        self.pixel_blocks = cdiv(self.pixels, 64)
        # of the small float32 arrays: numbers of elements
        squeezed = self.up + self.low
        self.kept_sizes = [
            self.n * 4 * self.channels,
            self.n * self.rows * squeezed,
            self.n * 6 * self.out_channels,
        ]
        block = max(8, min(64, 4096 // power_of_2(self.channels)))
        self.packed_size = self.n * self.out_channels * (
            self.taps * (self.up // options.gwc_groups) + squeezed)
        self.moment_block = block
        self.moment_blocks = min(cdiv(self.pixels, block), MOMENT_BLOCKS)
        self.squeeze_block = max(16, min(64, 8192 // power_of_2(self.low)))
        self.squeeze_blocks = min(cdiv(self.pixels, self.squeeze_block),
                                  max(64, 528 // self.n))
        self.temporary_sizes = [
            # multiples of 16 bytes
            cdiv(self.n * self.moment_blocks * 3 * options.gn_groups, 4) * 4,
            self.n * self.squeeze_blocks * self.rows * squeezed,
        ]

    @cached_property
    def moments(self) -> Launch:
        groups = self.options.gn_groups
        return Launch(
            kernels.moments_kernel, (self.moment_blocks, self.n),
            (self.channels, self.pixels, *self.strides), GROUPS=groups,
            CP=power_of_2(self.channels), GP=power_of_2(groups, 1),
            BP=self.moment_block)

    def squeeze(self, first: bool) -> Launch:
        options = self.options
        return Launch(
            kernels.squeeze_kernel,
            (self.squeeze_blocks if first else cdiv(
                self.pixels, self.squeeze_block), self.n),
            (*self.size, options.up_channels, self.up, self.low,
             self.moment_blocks, *self.strides, options.gn_eps,
             options.up_eps, options.low_eps, options.threshold),
            8, self.stages, C=self.channels, **self.geometry,
            ROWS=self.rows,
            GROUPS=options.gn_groups, GP=power_of_2(options.gn_groups, 1),
            RAW=not self.deployed, MIN_SUM=MIN_GAMMA_SUM,
            NORM=not self.deployed, FIRST=first, EVEN=self.even,
            **self.precision, CP=power_of_2(self.channels),
            UP=power_of_2(self.up), TP=power_of_2(self.low),
            BP=self.squeeze_block,
            BK=min(self.half_block, 64 if self.channels <= 128 else 32),
            BB=MOMENT_BLOCKS)

    @cached_property
    def first_squeeze(self) -> Launch:
        return self.squeeze(True)

    @cached_property
    def second_squeeze(self) -> Launch:
        return self.squeeze(False)

    @cached_property
    def reduce(self) -> Launch:
        width = self.up + self.low
        return Launch(
            kernels.reduce_kernel,
            (self.taps + 1, cdiv(width, 32), self.n),
            (self.up, width, self.squeeze_blocks), ROWS=self.rows, BN=32,
            BB=128)

    @cached_property
    def softmax(self) -> Launch:
        options = self.options
        return Launch(
            kernels.softmax_kernel, (cdiv(self.out_channels, 16), self.n),
            (self.out_channels, self.up, self.low, self.rest, self.outputs,
             *self.gwc_strides, options.eps1, options.eps2),
            KH=options.kernel[0], KW=options.kernel[1], G=options.gwc_groups,
            ROWS=self.rows, NORM=not self.deployed, POST=self.deployed, BN=16,
            UP=power_of_2(self.up), TP=power_of_2(self.low),
            GP=power_of_2(self.up // options.gwc_groups, 1))

    @cached_property
    def fuse(self) -> Launch:
        groups = self.options.gwc_groups
        in_group = self.out_channels // groups
        block_out = power_of_2(in_group, high=64)
        return Launch(
            kernels.fuse_kernel,
            (groups * cdiv(in_group, block_out), cdiv(self.outputs, 64),
             self.n),
            (self.out_channels, *self.size, self.up, self.low, self.rest,
             *self.out_strides), **self.geometry, G=groups, **self.precision,
            BM=64, BN=block_out, **self.k_blocks(self.up // groups, 'BU'))

    @staticmethod
    def k_blocks(channels: int, name: str) -> dict:
        """Block sizes of a grouped convolution's contraction."""
        block = power_of_2(channels, 1, 64)
        return {'BK': max(32, block), name: block}

    # ---- backward
    @cached_property
    def fuse_tiles(self) -> dict:
        """How the products of dY with its inputs are cut."""
        groups = self.options.gwc_groups
        in_group, seen = self.out_channels // groups, self.up // groups
        block_c = power_of_2(self.out_channels, high=64)
        # the most groups that a tile of output channels reaches into
        span = max((min(first + block_c, self.out_channels) - 1) // in_group
                   - first // in_group + 1
                   for first in range(0, self.out_channels, block_c))
        block_u = power_of_2(span * seen, high=64)
        tiles = (cdiv(self.taps, 64 // block_u) * cdiv(span * seen, block_u)
                 + cdiv(self.up + self.low, 64))
        c_tiles = cdiv(self.out_channels, block_c)
        splits = max(1, min(cdiv(self.outputs, 256),
                            cdiv(528, tiles * c_tiles * self.n)))
        return dict(block_c=block_c, block_u=block_u, tiles=tiles,
                    c_tiles=c_tiles, splits=splits)

    @property
    def fuse_columns(self) -> int:
        return self.taps * self.up + self.up + self.low + 1

    @cached_property
    def fuse_weight_gradient(self) -> Launch:
        cut = self.fuse_tiles
        return Launch(
            kernels.fuse_weight_gradient_kernel,
            (cut['tiles'], cut['c_tiles'], self.n * cut['splits']),
            (self.out_channels, *self.size, self.up, self.low, self.n,
             *self.gradient_strides), **self.geometry,
            G=self.options.gwc_groups, **self.precision, BP=64,
            BC=cut['block_c'], BK=64, BU=cut['block_u'])

    @cached_property
    def fuse_parameters_gradient(self) -> Launch:
        options = self.options
        row = power_of_2(
            self.taps * (self.up // options.gwc_groups) + self.up)
        return Launch(
            kernels.fuse_parameters_gradient_kernel, (self.out_channels, ),
            (self.out_channels, self.up, self.low, self.rest, self.n,
             self.fuse_tiles['splits'], self.outputs, *self.gwc_strides,
             options.eps1, options.eps2), KH=options.kernel[0],
            KW=options.kernel[1], G=options.gwc_groups, ROWS=self.rows,
            JP=row, TP=power_of_2(self.low),
            BS=max(1, min(32, 4096 // row)))

    @cached_property
    def fuse_input_gradient(self) -> Launch:
        groups = self.options.gwc_groups
        block = power_of_2(max(self.up // groups, self.low), high=64)
        tiles = groups * cdiv(self.up // groups, block) + cdiv(
            self.low, block)
        return Launch(
            kernels.fuse_input_gradient_kernel,
            (tiles, self.pixel_blocks, self.n),
            (self.out_channels, *self.size, self.up, self.low, self.rest,
             *self.gradient_strides), **self.geometry, G=groups,
            ROWS=self.rows, **self.precision, BM=64, BN=block,
            **self.k_blocks(self.out_channels // groups, 'BC'))

    @cached_property
    def constants(self) -> Launch:
        options = self.options
        return Launch(
            kernels.constants_kernel,
            (self.taps + 1, cdiv(self.up + self.low, 16), self.n),
            (self.out_channels, self.up, self.low, self.rest,
             *self.gwc_strides), KH=options.kernel[0], KW=options.kernel[1],
            G=options.gwc_groups, ROWS=self.rows,
            CP=power_of_2(self.out_channels), BN=16)

    @property
    def gate_numbers(self) -> tuple:
        options = self.options
        return (self.channels, self.pixels, options.up_channels,
                *self.strides, options.up_eps, options.low_eps,
                options.threshold, self.up, self.low)

    @property
    def gate_constants(self) -> dict:
        return dict(EVEN=self.even, **self.precision,
                    BP=64 if self.channels <= 128 else 32,
                    BK=self.half_block, UP=power_of_2(self.up),
                    TP=power_of_2(self.low))

    @property
    def half_tiles(self) -> int:
        return cdiv(self.channels // 2, self.half_block)

    @property
    def gate_blocks(self) -> int:
        return min(self.pixel_blocks, max(64, 528 // self.n))

    @cached_property
    def gate_sums(self) -> Launch:
        return Launch(
            kernels.gate_sums_kernel,
            (self.half_tiles, self.gate_blocks, self.n), self.gate_numbers,
            8, self.stages, **self.gate_constants)

    @cached_property
    def group_sums(self) -> Launch:
        groups = self.options.gn_groups
        width = power_of_2(self.channels // groups, 1)
        return Launch(
            kernels.group_sums_kernel, (groups, self.n),
            (self.channels, self.pixels, self.gate_blocks), GROUPS=groups,
            WP=width, BB=max(1, min(128, 4096 // width)))

    @cached_property
    def gate_input_gradient(self) -> Launch:
        return Launch(
            kernels.gate_input_gradient_kernel,
            (self.half_tiles, self.gate_blocks, self.n), self.gate_numbers,
            8, self.stages, GROUPS=self.options.gn_groups,
            **self.gate_constants)

    @cached_property
    def squeeze_splits(self) -> int:
        block = power_of_2(max(self.up, self.low), high=64)
        tiles = (cdiv(self.up, block) + cdiv(self.low, block)) * \
            self.half_tiles
        return max(1, min(self.pixel_blocks, cdiv(264, tiles)))

    @cached_property
    def squeeze_weight_gradient(self) -> Launch:
        block = power_of_2(max(self.up, self.low), high=64)
        return Launch(
            kernels.squeeze_weight_gradient_kernel,
            (cdiv(self.up, block) + cdiv(self.low, block), self.half_tiles,
             self.squeeze_splits),
            (self.channels, self.pixels, self.options.up_channels, self.up,
             self.low, self.n, *self.strides, self.options.threshold),
            self.warps, EVEN=self.even, **self.precision, BP=64, BN=block,
            BK=self.half_block)

    @cached_property
    def squeeze_parameters_gradient(self) -> Launch:
        options = self.options
        return Launch(
            kernels.squeeze_parameters_gradient_kernel,
            (self.up + self.low + 1, ),
            (self.channels, options.up_channels, self.up, self.low, self.n,
             self.squeeze_splits, options.up_eps, options.low_eps),
            MIN_SUM=MIN_GAMMA_SUM, CP=power_of_2(self.channels),
            BS=max(1, min(32, 4096 // power_of_2(self.channels))))


@lru_cache(maxsize=512)
def make_plan(*args, key) -> Plan:
    """A plan for arguments that may differ in ``key``, too: what compiled
    kernels depend on."""
    return Plan(*args)


def plan_of(x: Tensor, channels_last: bool, dtype: torch.dtype,
            p: Parameters, options: Options, deployed: bool,
            gradient_channels_last: bool = True) -> Plan:
    key = (x.device, x.dtype, torch.backends.cudnn.allow_tf32,
           *[t.dtype for t in p])
    return make_plan(
        tuple(x.shape), channels_last, gradient_channels_last, dtype,
        (p.gwc.shape[0], p.up_weight.shape[0], p.low_weight.shape[0],
         p.pwc2.shape[0]), p.gwc.stride(), options, deployed, key=key)


def run_forward(x: Tensor, p: Parameters, options: Options,
                dtype: torch.dtype, post: tuple[Tensor, ...] = ()
                ) -> tuple[Tensor, Tensor, Tensor]:
    """Output, and what the backward pass needs beside x.

    Args:
        x (Tensor): (N, C, H, W), contiguous in one of both layouts.
        post (tuple): Of a deployed SCConv, scale and shift of the norm
            behind it.
    """
    channels_last = is_channels_last(x)
    plan = plan_of(x, channels_last, dtype, p, options, bool(post))
    temporary = torch.empty(
        sum(plan.temporary_sizes), dtype=torch.float32, device=x.device)
    moments, sums = temporary.split(plan.temporary_sizes)
    kept = torch.empty(
        sum(plan.kept_sizes), dtype=torch.float32, device=x.device)
    affine, reduced, coefficients = kept.split(plan.kept_sizes)
    squeezed = torch.empty((plan.n, plan.pixels, plan.up + plan.low),
                           dtype=dtype, device=x.device)
    packed = torch.empty(plan.packed_size, dtype=dtype, device=x.device)
    y = torch.empty(
        (plan.n, plan.out_channels, plan.out_height, plan.out_width),
        dtype=dtype, device=x.device,
        memory_format=torch.channels_last
        if channels_last else torch.contiguous_format)
    plan.moments(x, moments)
    plan.first_squeeze(x, moments, affine, squeezed, sums, *p.gate,
                       *p.squeezes)
    plan.reduce(sums, reduced)
    plan.softmax(reduced, coefficients, packed, *p.fuse, *(post or (y, y)))
    plan.fuse(squeezed, coefficients, packed, y)
    return y, kept, packed


def run_backward(dy: Tensor, x: Tensor, kept: Tensor, packed: Tensor,
                 p: Parameters, options: Options) -> dict[str, Tensor]:
    """Gradients of x and of the trained parameters, by name."""
    dy = dense(dy)
    plan = plan_of(x, is_channels_last(x), dy.dtype, p, options, False,
                   is_channels_last(dy))
    affine, reduced, coefficients = kept.split(plan.kept_sizes)
    grads = {name: torch.empty_like(tensor)
             for name, tensor in p._asdict().items() if name in TRAINED}
    n, groups = plan.n, options.gn_groups
    splits = plan.fuse_tiles['splits']
    sizes = [
        n * 2 * plan.out_channels,  # constants
        n * 2 * plan.channels,  # channel sums
        cdiv(n * 2 * groups, 4) * 4,  # group means
        n * plan.rows * (plan.up + plan.low),  # constants by tap
        n * plan.gate_blocks * 2 * plan.channels,  # their parts
        cdiv(splits * n * plan.out_channels * plan.fuse_columns, 4) * 4,
        plan.squeeze_splits * (plan.up + plan.low) * (plan.channels + 1),
    ]
    temporary = torch.empty(sum(sizes), dtype=torch.float32, device=x.device)
    (constants, channel_sums, group_means, seen_constants, gate_sums,
     fuse_products, squeeze_products) = temporary.split(sizes)
    squeezed = torch.empty((n, plan.pixels, plan.up + plan.low),
                           dtype=dy.dtype, device=x.device)
    d_squeezed = torch.empty_like(squeezed)
    dx = torch.empty_like(x)
    squeezes = (p.up_weight, p.up_gamma, p.up_var, p.low_weight, p.low_gamma,
                p.low_var)
    plan.second_squeeze(x, affine, affine, squeezed, affine, *p.gate,
                        *p.squeezes)
    plan.fuse_weight_gradient(dy, squeezed, fuse_products)
    plan.fuse_parameters_gradient(
        fuse_products, reduced, coefficients, *p.fuse, grads['gwc'],
        grads['pwc1'], grads['gamma1'], grads['beta1'], grads['pwc2'],
        grads['pwc2_bias'], grads['gamma2'], grads['beta2'], constants)
    plan.constants(constants, seen_constants, p.gwc, p.pwc1, p.pwc2)
    plan.fuse_input_gradient(dy, coefficients, packed, seen_constants,
                             d_squeezed)
    plan.gate_sums(x, affine, d_squeezed, gate_sums, *squeezes)
    plan.group_sums(gate_sums, affine, channel_sums, group_means)
    plan.gate_input_gradient(x, affine, d_squeezed, group_means, dx,
                             *squeezes)
    plan.squeeze_weight_gradient(x, affine, d_squeezed, squeeze_products)
    plan.squeeze_parameters_gradient(
        squeeze_products, channel_sums, *p.gate, *p.squeezes,
        *(grads[name] for name in TRAINED[:10]))
    return dict(grads, x=dx)


@torch.library.custom_op('mmdet_scconv::scconv', mutates_args=())
def forward_operator(x: Tensor, parameters: list[Tensor], ints: list[int],
                     floats: list[float], dtype: torch.dtype,
                     post: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`run_forward` as one node of a compiler's graph."""
    return run_forward(x, Parameters(*parameters), Options.of(ints, floats),
                       dtype, tuple(post))


@forward_operator.register_fake
def _(x, parameters, ints, floats, dtype, post):
    p, options = Parameters(*parameters), Options.of(ints, floats)
    n, channels, height, width = x.shape
    out, up, low = p.gwc.shape[0], p.up_weight.shape[0], p.low_weight.shape[0]
    (kh, kw), (sh, sw) = options.kernel, options.stride
    rows = power_of_2(kh * kw + 1)
    y = torch.empty(
        (n, out, (height + sh - 1) // sh, (width + sw - 1) // sw),
        dtype=dtype, device=x.device, memory_format=torch.channels_last
        if is_channels_last(x) else torch.contiguous_format)
    kept = n * (4 * channels + rows * (up + low) + 6 * out)
    packed = n * out * (kh * kw * (up // options.gwc_groups) + up + low)
    return (y, x.new_empty(kept, dtype=torch.float32),
            x.new_empty(packed, dtype=dtype))


@torch.library.custom_op('mmdet_scconv::scconv_backward', mutates_args=())
def backward_operator(dy: Tensor, x: Tensor, kept: Tensor, packed: Tensor,
                      parameters: list[Tensor], ints: list[int],
                      floats: list[float]) -> list[Tensor]:
    """:func:`run_backward` as one node: x's gradient, then ``TRAINED``."""
    grads = run_backward(dy, x, kept, packed, Parameters(*parameters),
                         Options.of(ints, floats))
    return [grads['x'], *(grads[name] for name in TRAINED)]


@backward_operator.register_fake
def _(dy, x, kept, packed, parameters, ints, floats):
    named = Parameters(*parameters)._asdict()
    return [torch.empty_like(x),
            *(torch.empty_like(named[name]) for name in TRAINED)]


class TritonSCConv(torch.autograd.Function):
    """SCConv from its parameters. Shape: as SCConv's."""

    @staticmethod
    def forward(ctx, x: Tensor, options: Options, dtype: torch.dtype,
                *parameters: Tensor) -> Tensor:
        x = dense(x)
        if torch.compiler.is_compiling():
            y, *kept = forward_operator(x, list(parameters), *options.flat(),
                                        dtype, [])
        else:
            y, *kept = run_forward(x, Parameters(*parameters), options, dtype)
        ctx.save_for_backward(x, *kept, *parameters)
        ctx.options = options
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        x, kept, packed, *parameters = ctx.saved_tensors
        if torch.compiler.is_compiling():
            dx, *grads = backward_operator(dy, x, kept, packed, parameters,
                                           *ctx.options.flat())
            grads = dict(zip(TRAINED, grads), x=dx)
        else:
            grads = run_backward(dy, x, kept, packed, Parameters(*parameters),
                                 ctx.options)
        return (grads['x'], None, None,
                *(grads.get(name) for name in Parameters._fields))


def scconv(x: Tensor, options: Options, dtype: torch.dtype,
           parameters: list[Tensor]) -> Tensor:
    """SCConv with running statistics.

    Args:
        x (Tensor): (N, C, H, W).
        options (Options): Of the layer.
        dtype (torch.dtype): Of the output.
        parameters (list): In the order of :class:`Parameters`.
    """
    if torch.is_grad_enabled() and (x.requires_grad or any(
            p.requires_grad for p in parameters)):
        return TritonSCConv.apply(x, options, dtype, *parameters)
    return without_gradient(x, options, dtype, parameters, [])


def without_gradient(x: Tensor, options: Options, dtype: torch.dtype,
                     parameters: list[Tensor], post: list[Tensor]) -> Tensor:
    """The output alone; see :func:`scconv`, and ``post`` of
    :func:`run_forward`."""
    x = dense(x)
    if torch.compiler.is_compiling():
        return forward_operator(x, parameters, *options.flat(), dtype,
                                post)[0]
    return run_forward(x, Parameters(*parameters), options, dtype,
                       tuple(post))[0]


deployed_scconv = torch.no_grad()(without_gradient)
