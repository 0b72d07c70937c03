"""The forward pass: 5 kernels."""
from functools import cached_property

import torch
from torch import Tensor
from triton import cdiv

from ..parameters import Options, Parameters
from .device import fuse
from .launch import (
    Launch,
    Parts,
    aligned,
    is_channels_last,
    launch_in_order,
    layout_of,
    power_of_2,
)
from .plan import Plan, k_blocks, plan_of


def kept_sizes(n: int, channels: int, widths: tuple[int, int, int],
               options: Options) -> tuple[int, int, int, int]:
    """Numbers of elements of what the backward pass needs, see
    :func:`run_forward`; all but the last are float32.

    Args:
        widths (tuple): Of the output, up, low.
    """
    out, up, low = widths
    taps = options.kernel[0] * options.kernel[1]
    return (n * 4 * channels, n * power_of_2(taps + 1) * (up + low),
            n * 6 * out,
            n * out * (taps * (up // options.gwc_groups) + up + low))


class ForwardPlan(Plan):
    """The launches of the forward pass."""

    @cached_property
    def arrays(self) -> list[tuple]:
        """Those that it needs alone: the moments, the sums over what the taps
        see, the squeezed maps."""
        squeezed = self.up + self.low
        return [
            (self.moments_size, torch.float32),
            (self.n * self.squeeze_blocks * self.rows * squeezed,
             torch.float32),
            (self.n * self.pixels * squeezed, self.dtype),
        ]

    @cached_property
    def kept(self) -> list[tuple]:
        """Those that the backward pass needs, too, see run_forward."""
        *sizes, packed = kept_sizes(
            self.n, self.channels, (self.out_channels, self.up, self.low),
            self.options)
        return [*((size, torch.float32) for size in sizes),
                (packed, self.dtype)]

    @cached_property
    def temporary(self) -> Parts:
        return Parts(*self.arrays)

    @cached_property
    def all(self) -> Parts:
        return Parts(*self.arrays, *self.kept)

    @cached_property
    def first_squeeze(self) -> Launch:
        return self.squeeze(first=True)

    @cached_property
    def reduce(self) -> Launch:
        width = self.up + self.low
        return Launch(
            fuse.reduce_kernel,
            (self.taps + 1, cdiv(width, 32), self.n),
            (self.up, width, self.squeeze_blocks), ROWS=self.rows, BN=32,
            BB=128)

    @cached_property
    def softmax(self) -> Launch:
        options = self.options
        return Launch(
            fuse.softmax_kernel, (cdiv(self.out_channels, 16), self.n),
            (self.out_channels, self.up, self.low, self.rest, self.outputs,
             *self.gwc_strides, options.eps1, options.eps2),
            8 if self.channels <= 256 else 4, KH=options.kernel[0],
            KW=options.kernel[1], G=options.gwc_groups, ROWS=self.rows,
            NORM=not self.deployed, POST=self.deployed, BN=16,
            UP=power_of_2(self.up), TP=power_of_2(self.low),
            GP=power_of_2(self.up // options.gwc_groups, 1))

    @cached_property
    def fuse(self) -> Launch:
        groups = self.options.gwc_groups
        in_group = self.out_channels // groups
        block_out = power_of_2(in_group, high=64)
        block = 128 if self.channels <= 128 else 64
        return Launch(
            fuse.fuse_kernel,
            (groups * cdiv(in_group, block_out), cdiv(self.outputs, block),
             self.n),
            (self.out_channels, *self.size, self.up, self.low, self.rest,
             *self.out_strides), **self.geometry, G=groups, **self.precision,
            BM=block, BN=block_out, **k_blocks(self.up // groups, 'BU'))


def run_forward(x: Tensor, p: Parameters, options: Options,
                dtype: torch.dtype, post: tuple[Tensor, ...] = (),
                keep: bool = True) -> tuple[Tensor, ...]:
    """Output, and what the backward pass needs beside x: the gate's affine,
    the sums over what the taps see, the fuse's coefficients and weights.

    Args:
        x (Tensor): (N, C, H, W), contiguous in one of both layouts.
        post (tuple): Of a deployed SCConv, scale and shift of the norm
            behind it.
        keep (bool): False: the output alone.
    """
    x, = aligned((x, ))
    p, post = Parameters(*aligned(p)), aligned(post)
    channels_last = is_channels_last(x)
    plan = plan_of(ForwardPlan, x, channels_last, dtype, p, options,
                   bool(post))
    if keep:
        moments, sums, squeezed = plan.temporary.allocate(x.device)
        kept = [torch.empty(size, dtype=kind, device=x.device)
                for size, kind in plan.kept]
    else:
        moments, sums, squeezed, *kept = plan.all.allocate(x.device)
    affine, reduced, coefficients, packed = kept
    y = torch.empty(
        (plan.n, plan.out_channels, plan.out_height, plan.out_width),
        dtype=dtype, device=x.device, memory_format=layout_of(x))
    launch_in_order(
        (plan.moments, x, moments),
        (plan.first_squeeze, x, moments, affine, squeezed, sums, *p.gate,
         *p.squeezes),
        (plan.reduce, sums, reduced),
        (plan.softmax, reduced, coefficients, packed, *p.fuse,
         *(post or (y, y))),
        (plan.fuse, squeezed, coefficients, packed, y),
    )
    return (y, *kept) if keep else (y, )
