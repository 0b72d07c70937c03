"""The end of the CRU where its norms use the statistics of the batch: 3
kernels forward, 3 backward.

cuDNN's convolutions are before it. In eager mode: a compiler fuses PyTorch's
operators itself.
"""
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from triton import cdiv

from .device import norm_fuse as device
from .launch import (
    Launch,
    Parts,
    launch_in_order,
    layout_of,
    map_strides,
    power_of_2,
    readable,
)
from .plan import dtype_of, make_plan

ROWS = 256  # sums of blocks that are read at once


class NormFusePlan:
    """The launches of both passes for one size of output, made once.

    Args:
        shape (tuple): N, C, H, W.
        low (int): Channels of the squeezed low branch.
        channels_last (bool): Layout of all maps.
        numbers (tuple): eps of both norms, then momentum of both.
    """

    def __init__(self, shape, low: int, channels_last: bool,
                 numbers: tuple[float, float, float, float]) -> None:
        self.n, self.channels, height, width = shape
        self.pixels = height * width
        self.rest = self.channels - low
        self.numbers = numbers
        # layout of the maps: all that is C wide, PWC2, low
        self.strides = [
            stride for channels in (self.channels, self.rest, low)
            for stride in map_strides(channels, self.pixels,
                                      channels_last)]
        pixel_blocks = cdiv(self.pixels, 64)
        # what the kernels over channels read is few rows
        self.blocks = min(pixel_blocks, max(8, 528 // self.n))
        self.free_blocks = min(pixel_blocks, 1 << 14)

    @cached_property
    def before(self) -> Parts:
        return Parts((self.n * self.blocks * 5 * self.channels,
                      torch.float32))

    @cached_property
    def between(self) -> Parts:
        return Parts((self.n * self.blocks * 3 * self.channels,
                      torch.float32),
                     (self.coefficients_size, torch.float32))

    @property
    def coefficients_size(self) -> int:
        return self.n * 6 * self.channels

    def over_maps(self, kernel, blocks: int) -> Launch:
        block = power_of_2(self.channels, high=64)
        return Launch(
            kernel, (cdiv(self.channels, block), blocks, self.n),
            (self.channels, self.rest, self.pixels, *self.strides), BP=16,
            BK=block)

    def over_channels(self, kernel, *numbers: float) -> Launch:
        """Each program sums over all samples, then writes for some."""
        return Launch(
            kernel, (cdiv(self.channels, 8), min(self.n, 32)),
            (self.channels, self.n, self.pixels, self.blocks, *numbers),
            BB=ROWS, BN=8)

    @cached_property
    def moments(self) -> Launch:
        return self.over_maps(device.norm_fuse_moments_kernel, self.blocks)

    @cached_property
    def coefficients(self) -> Launch:
        return self.over_channels(device.norm_fuse_coefficients_kernel,
                                  *self.numbers)

    @cached_property
    def fuse(self) -> Launch:
        return self.over_maps(device.norm_fuse_kernel, self.free_blocks)

    @cached_property
    def sums(self) -> Launch:
        return self.over_maps(device.norm_fuse_sums_kernel, self.blocks)

    @cached_property
    def gradient_coefficients(self) -> Launch:
        return self.over_channels(
            device.norm_fuse_gradient_coefficients_kernel)

    @cached_property
    def input_gradient(self) -> Launch:
        return self.over_maps(device.norm_fuse_input_gradient_kernel,
                              self.free_blocks)


class TritonNormFuse(torch.autograd.Function):
    """Shape: gwc and pwc1 (N, C, H, W), pwc2 (N, C - T, H, W), low (N, T, H,
    W) -> (N, C, H, W), of gwc's dtype."""

    @staticmethod
    def forward(ctx, numbers: tuple, buffers: tuple[Tensor, ...], gwc: Tensor,
                pwc1: Tensor, pwc2: Tensor, low: Tensor,
                *parameters: Tensor) -> Tensor:
        layout = layout_of(gwc)
        maps = gwc, pwc1, pwc2, low = readable((gwc, pwc1, pwc2, low), layout)
        parameters = gamma1, beta1, gamma2, beta2 = readable(parameters)
        updated = readable(buffers)
        plan = make_plan(
            NormFusePlan, tuple(gwc.shape), low.shape[1],
            layout == torch.channels_last, numbers,
            key=(gwc.device,
                 *map(dtype_of, (*maps, *parameters, *updated))))
        partial, = plan.before.allocate(gwc.device)
        v1, y = torch.empty_like(gwc), torch.empty_like(gwc)
        statistics = gwc.new_empty(4 * plan.channels, dtype=torch.float32)
        coefficients = gwc.new_empty(plan.coefficients_size,
                                     dtype=torch.float32)
        launch_in_order(
            (plan.moments, gwc, pwc1, pwc2, low, v1, partial),
            (plan.coefficients, partial, statistics, coefficients, gamma1,
             beta1, *updated[:3], gamma2, beta2, *updated[3:]),
            (plan.fuse, v1, pwc2, low, statistics, coefficients, y))
        for buffer, new in zip(buffers, updated):
            if new is not buffer:
                buffer.copy_(new)
        ctx.save_for_backward(v1, pwc2, low, statistics, coefficients, gamma1,
                              beta1, gamma2, beta2)
        ctx.plan, ctx.layout = plan, layout
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        *maps, statistics, coefficients, gamma1, beta1, gamma2, beta2 = \
            ctx.saved_tensors
        parameters = gamma1, beta1, gamma2, beta2
        # hooks may have saved maps in another layout
        dy, *maps = readable((dy, *maps), ctx.layout)
        plan = ctx.plan
        partial, gradient = plan.between.allocate(dy.device)
        d_maps = [*map(torch.empty_like, maps)]
        d_parameters = [*map(torch.empty_like, parameters)]
        launch_in_order(
            (plan.sums, dy, *maps, statistics, partial),
            (plan.gradient_coefficients, partial, statistics, coefficients,
             gradient, *parameters, *d_parameters),
            (plan.input_gradient, dy, *maps, statistics, gradient, *d_maps))
        return None, None, d_maps[0], *d_maps, *d_parameters


def norm_fuse(gwc: Tensor, pwc1: Tensor, pwc2: Tensor, low: Tensor,
              bn1: nn.Module, bn2: nn.Module) -> Tensor:
    """Fuse of bn1(gwc + pwc1) and bn2([pwc2, low]), whose running statistics
    are updated.

    Args:
        gwc, pwc1 (Tensor): (N, C, H, W).
        pwc2 (Tensor): (N, C - T, H, W).
        low (Tensor): (N, T, H, W).
        bn1, bn2 (nn.Module): BatchNorms in training mode.
    """
    norms = bn1, bn2
    return TritonNormFuse.apply(
        (*(norm.eps for norm in norms), *(norm.momentum for norm in norms)),
        tuple(buffer for norm in norms for buffer in (
            norm.running_mean, norm.running_var, norm.num_batches_tracked)),
        gwc, pwc1, pwc2, low,
        *(tensor for norm in norms for tensor in (norm.weight, norm.bias)))
