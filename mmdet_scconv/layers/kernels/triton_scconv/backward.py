"""The backward pass: 10 kernels."""
from functools import cached_property

import torch
from torch import Tensor
from triton import cdiv

from ..parameters import TRAINED, Options, Parameters
from .device import (
    fuse_input_gradient,
    fuse_parameters_gradient,
    gate_gradient,
    squeeze_parameters_gradient,
)
from .launch import (
    Launch,
    Parts,
    aligned,
    dense,
    is_channels_last,
    launch_in_order,
    power_of_2,
)
from .plan import MIN_GAMMA_SUM, Plan, k_blocks, plan_of


class BackwardPlan(Plan):
    """The launches of the backward pass."""

    @cached_property
    def temporary(self) -> Parts:
        n, width = self.n, self.up + self.low
        return Parts(
            (n * 2 * self.out_channels, torch.float32),  # constants
            (n * self.rows * width, torch.float32),  # constants by tap
            *((size, torch.float32) for size in self.sums_sizes),
            (self.fuse_tiles['splits'] * n * self.out_channels
             * self.fuse_columns, torch.float32),  # dY times its inputs
            (self.squeeze_splits * width * (self.channels + 1),
             torch.float32),
            (n * self.pixels * width, self.dtype),  # squeezed maps
            (n * self.pixels * width, self.dtype),  # their gradients
        )

    @cached_property
    def second_squeeze(self) -> Launch:
        return self.squeeze(first=False)

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
            fuse_parameters_gradient.fuse_weight_gradient_kernel,
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
            fuse_parameters_gradient.fuse_parameters_gradient_kernel,
            (self.out_channels, ),
            (self.out_channels, self.up, self.low, self.rest, self.n,
             self.fuse_tiles['splits'], self.outputs, *self.gwc_strides,
             options.eps1, options.eps2), 4 if self.narrow else 8,
            KH=options.kernel[0], KW=options.kernel[1],
            G=options.gwc_groups, ROWS=self.rows, JP=row,
            TP=power_of_2(self.low), BS=max(1, min(32, 4096 // row)))

    @cached_property
    def fuse_input_gradient(self) -> Launch:
        groups = self.options.gwc_groups
        block = power_of_2(max(self.up // groups, self.low), high=64)
        tiles = groups * cdiv(self.up // groups, block) + cdiv(
            self.low, block)
        return Launch(
            fuse_input_gradient.fuse_input_gradient_kernel,
            (tiles, self.pixel_blocks, self.n),
            (self.out_channels, *self.size, self.up, self.low, self.rest,
             *self.gradient_strides), **self.geometry, G=groups,
            ROWS=self.rows, **self.precision, BM=64, BN=block,
            **k_blocks(self.out_channels // groups, 'BC'))

    @cached_property
    def constants(self) -> Launch:
        options = self.options
        return Launch(
            fuse_input_gradient.constants_kernel,
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
        return dict(EVEN=self.even, **self.precision, BK=self.half_block,
                    UP=power_of_2(self.up), TP=power_of_2(self.low))

    @cached_property
    def gate_sums(self) -> Launch:
        return Launch(
            gate_gradient.gate_sums_kernel,
            (self.half_tiles, self.gate_blocks, self.n), self.gate_numbers,
            BP=16, **self.gate_constants)

    @cached_property
    def gate_input_gradient(self) -> Launch:
        return Launch(
            gate_gradient.gate_input_gradient_kernel,
            (self.half_tiles, self.gate_blocks, self.n), self.gate_numbers,
            4, 3 if self.narrow else 1, GROUPS=self.options.gn_groups,
            BP=16 if self.narrow else 32, **self.gate_constants)

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
            squeeze_parameters_gradient.squeeze_weight_gradient_kernel,
            (cdiv(self.up, block) + cdiv(self.low, block), self.half_tiles,
             self.squeeze_splits),
            (self.channels, self.pixels, self.options.up_channels, self.up,
             self.low, self.n, *self.strides, self.options.threshold),
            8, 3 if self.narrow else 1, EVEN=self.even, **self.precision,
            BP=64 if self.narrow else 16, BN=block, BK=self.half_block)

    @cached_property
    def squeeze_parameters_gradient(self) -> Launch:
        options = self.options
        return Launch(
            squeeze_parameters_gradient.squeeze_parameters_gradient_kernel,
            (self.up + self.low + 1, ),
            (self.channels, options.up_channels, self.up, self.low, self.n,
             self.squeeze_splits, options.up_eps, options.low_eps),
            MIN_SUM=MIN_GAMMA_SUM, CP=power_of_2(self.channels),
            BS=max(1, min(32, 4096 // power_of_2(self.channels))))


def run_backward(dy: Tensor, x: Tensor, kept: tuple[Tensor, ...],
                 p: Parameters, options: Options) -> dict[str, Tensor]:
    """Gradients of x and of the trained parameters, by name.

    Args:
        dy (Tensor): Gradient of the output.
        x (Tensor): The forward pass's.
        kept (tuple): What :func:`run_forward` returned behind the output.
    """
    affine, reduced, coefficients, packed = kept
    dy, x = aligned((dense(dy), x))
    p = Parameters(*aligned(p))
    plan = plan_of(BackwardPlan, x, is_channels_last(x), dy.dtype, p, options,
                   False, is_channels_last(dy))
    grads = {name: torch.empty_like(tensor)
             for name, tensor in p._asdict().items() if name in TRAINED}
    (constants, seen_constants, gate_sums, channel_sums, group_means,
     fuse_products, squeeze_products, squeezed, d_squeezed
     ) = plan.temporary.allocate(x.device)
    dx = torch.empty_like(x)
    squeezes = (p.up_weight, p.up_gamma, p.up_var, p.low_weight, p.low_gamma,
                p.low_var)
    launch_in_order(
        (plan.second_squeeze, x, affine, affine, squeezed, affine, *p.gate,
         *p.squeezes),
        (plan.fuse_weight_gradient, dy, squeezed, fuse_products),
        (plan.fuse_parameters_gradient, fuse_products, reduced, coefficients,
         *p.fuse, grads['gwc'], grads['pwc1'], grads['gamma1'],
         grads['beta1'], grads['pwc2'], grads['pwc2_bias'], grads['gamma2'],
         grads['beta2'], constants),
        (plan.constants, constants, seen_constants, p.gwc, p.pwc1, p.pwc2),
        (plan.fuse_input_gradient, dy, coefficients, packed, seen_constants,
         d_squeezed),
        (plan.gate_sums, x, affine, d_squeezed, gate_sums, *squeezes),
        (plan.group_sums, gate_sums, affine, channel_sums, group_means),
        (plan.gate_input_gradient, x, affine, d_squeezed, group_means, dx,
         *squeezes),
        (plan.squeeze_weight_gradient, x, affine, d_squeezed,
         squeeze_products),
        (plan.squeeze_parameters_gradient, squeeze_products, channel_sums,
         *p.gate, *p.squeezes, *(grads[name] for name in TRAINED[:10])),
    )
    return dict(grads, x=dx)
