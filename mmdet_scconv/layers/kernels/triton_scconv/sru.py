"""The SRU alone: 2 kernels forward, 4 backward.

For SCConvs whose BatchNorms use batch statistics, in eager mode: a compiler
fuses PyTorch's operators itself.
"""
from functools import cached_property

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..parameters import SRUOptions
from .device import sru as device
from .launch import (
    Launch,
    Parts,
    aligned,
    dense,
    launch_in_order,
    layout_of,
    map_strides,
    power_of_2,
    readable,
)
from .plan import MIN_GAMMA_SUM, MOMENT_BLOCKS, SRUPlan, make_plan


class SRUOnlyPlan(SRUPlan):
    """The launches of both passes."""

    @property
    def widths(self) -> tuple[int, int]:
        """Of the parts that go up and low."""
        up = self.options.up_channels
        return up, self.channels - up

    @cached_property
    def before(self) -> Parts:
        return Parts((self.moments_size, torch.float32))

    @cached_property
    def between(self) -> Parts:
        return Parts(*((size, torch.float32) for size in self.sums_sizes))

    @cached_property
    def part_strides(self) -> tuple[int, int, int, int]:
        return tuple(
            stride for width in self.widths for stride in map_strides(
                width, self.pixels, self.channels_last))

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.half_tiles, self.gate_blocks, self.n

    @cached_property
    def gate(self) -> Launch:
        options = self.options
        return Launch(
            device.sru_kernel, self.grid,
            (self.pixels, self.moment_blocks, options.up_channels,
             *self.strides, *self.part_strides, options.gn_eps,
             options.threshold), C=self.channels, GROUPS=options.gn_groups,
            GP=power_of_2(options.gn_groups, 1), MIN_SUM=MIN_GAMMA_SUM,
            EVEN=self.even, CP=power_of_2(self.channels), BP=16,
            BK=self.half_block, BB=MOMENT_BLOCKS)

    @property
    def gradient_numbers(self) -> tuple:
        return (self.channels, self.pixels, self.options.up_channels,
                *self.strides, *self.part_strides, self.options.threshold)

    @cached_property
    def sums(self) -> Launch:
        return Launch(device.sru_sums_kernel, self.grid,
                      self.gradient_numbers, EVEN=self.even, BP=16,
                      BK=self.half_block)

    @cached_property
    def input_gradient(self) -> Launch:
        return Launch(
            device.sru_input_gradient_kernel, self.grid,
            self.gradient_numbers, 4, 3 if self.narrow else 1,
            GROUPS=self.options.gn_groups, EVEN=self.even,
            BP=16 if self.narrow else 32, BK=self.half_block)

    @cached_property
    def parameters_gradient(self) -> Launch:
        return Launch(
            device.sru_parameters_gradient_kernel, (1, ),
            (self.channels, self.n), MIN_SUM=MIN_GAMMA_SUM,
            CP=power_of_2(self.channels))


def plan_of(x: Tensor, layout: torch.memory_format, dtype: torch.dtype,
            weight: Tensor, bias: Tensor,
            options: SRUOptions) -> SRUOnlyPlan:
    """The plan for an input, looked up."""
    return make_plan(
        SRUOnlyPlan, tuple(x.shape), layout == torch.channels_last, options,
        key=(x.device, x.dtype, dtype, weight.dtype, bias.dtype))


class TritonSRU(torch.autograd.Function):
    """Shape: (N, C, H, W) -> (N, up, H, W) and (N, C - up, H, W)."""

    @staticmethod
    def forward(ctx, x: Tensor, options: SRUOptions, dtype: torch.dtype,
                weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        x, = aligned((dense(x), ))
        weight, bias = readable((weight, bias))
        layout = layout_of(x)
        plan = plan_of(x, layout, dtype, weight, bias, options)
        moments, = plan.before.allocate(x.device)
        affine = x.new_empty(plan.n * 4 * plan.channels, dtype=torch.float32)
        up, low = (
            torch.empty((plan.n, width, plan.height, plan.width),
                        dtype=dtype, device=x.device, memory_format=layout)
            for width in plan.widths)
        launch_in_order(
            (plan.moments, x, moments),
            (plan.gate, x, moments, affine, up, low, weight, bias))
        ctx.save_for_backward(x, affine, weight, bias)
        ctx.options, ctx.layout = options, layout
        return up, low

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        x, affine, weight, bias = ctx.saved_tensors
        # hooks may have saved x in another layout
        x, *grads = readable((x, *grads), ctx.layout)
        plan = plan_of(x, ctx.layout, grads[0].dtype, weight, bias,
                       ctx.options)
        sums, channel_sums, group_means = plan.between.allocate(x.device)
        dx, d_weight, d_bias = map(torch.empty_like, (x, weight, bias))
        launch_in_order(
            (plan.sums, x, affine, *grads, sums),
            (plan.group_sums, sums, affine, channel_sums, group_means),
            (plan.input_gradient, x, affine, *grads, group_means, dx),
            (plan.parameters_gradient, channel_sums, weight, bias, d_weight,
             d_bias))
        return dx, None, None, d_weight, d_bias


def sru(x: Tensor, options: SRUOptions, dtype: torch.dtype, weight: Tensor,
        bias: Tensor) -> tuple[Tensor, Tensor]:
    """The parts of an SRU's output that go up and low.

    Args:
        x (Tensor): (N, C, H, W).
        options (SRUOptions): Of the layer.
        dtype (torch.dtype): Of the output.
        weight, bias (Tensor): Of the GroupNorm.
    """
    return TritonSRU.apply(x, options, dtype, weight, bias)
