"""The SRU in one GroupNorm with folded weights and a few vectorised passes,
or in the kernel for CPUs.

Returns the two halves of the output without concatenating them. For the
backward pass only the input is kept.
"""
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..common import are_float32, is_exporting, is_traced
from ..kernels import cpu


class SRUGate(torch.autograd.Function):
    """The SRU from its folded weights to both halves of the output.

    With the logits z, m = (z > threshold), q = (1 - m) sigmoid(z) x and the
    halves 1 and 2 of the channels: out_i = m_i x_i + q_1 + q_2.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, groups: int,
                eps: float, threshold: float) -> tuple[Tensor, Tensor]:
        ctx.options = groups, eps, threshold
        if cpu.fits(x):
            *halves, affine, moments = torch.ops.mmdet_scconv.sru_gate(
                x, weight, bias, groups, eps, threshold)
            ctx.save_for_backward(x, weight, affine, moments)
            return tuple(halves)
        ctx.save_for_backward(x, weight, bias)
        wide = x.to(weight.dtype)
        logits = torch.group_norm(wide, groups, weight, bias, eps)
        # logits > threshold ? x : 0, in one pass, unlike torch.where's two
        kept = torch.ops.aten.threshold_backward(wide, logits, threshold)
        damped = (wide - kept).mul_(logits.sigmoid_())
        half = x.shape[1] // 2
        both = damped[:, :half] + damped[:, half:]
        halves = kept[:, :half] + both, kept[:, half:] + both
        # torch 2.11's compiler gives a gradient of zero to an output that is
        # a cast to the same dtype
        return halves if x.dtype == weight.dtype else tuple(
            out.to(x.dtype) for out in halves)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        groups, eps, threshold = ctx.options
        saved = ctx.saved_tensors  # once: checkpointing counts
        if len(saved) == 4:  # of the kernel
            return *torch.ops.mmdet_scconv.sru_gate_backward(
                *grads, *saved, threshold), None, None, None
        x, weight, bias = saved
        dtype = x.dtype
        # the native calls expect all maps in one layout, which on GPUs must
        # be the contiguous one
        layout = torch.channels_last if x.device.type == 'cpu' and \
            x.is_contiguous(memory_format=torch.channels_last) \
            else torch.contiguous_format
        x, *grads = (t.to(weight.dtype).contiguous(memory_format=layout)
                     for t in (x, *grads))
        logits, mean, rstd = torch.native_group_norm(
            x, weight, bias, x.shape[0], x.shape[1],
            x.shape[2] * x.shape[3], groups, eps)
        grad = torch.cat(grads, dim=1)
        both = (grads[0] + grads[1]).repeat(1, 2, 1, 1)
        grad_x = torch.ops.aten.threshold_backward(grad, logits, threshold)
        both -= torch.ops.aten.threshold_backward(both, logits, threshold)
        gate = logits.sigmoid_()
        both *= gate
        grad_x += both
        grad_logits = both.mul_(x).mul_(1 - gate).contiguous(
            memory_format=layout)
        through_norm, grad_weight, grad_bias = \
            torch.ops.aten.native_group_norm_backward(
                grad_logits, x, mean, rstd, weight, x.shape[0], x.shape[1],
                x.shape[2] * x.shape[3], groups,
                # without the first it crashes in channels_last (torch 2.13)
                [True, *ctx.needs_input_grad[1:3]])
        grad_x += through_norm
        return grad_x.to(dtype), grad_weight, grad_bias, None, None, None


class GateAffine(torch.autograd.Function):
    """``SRU.gate_affine`` in the kernels for CPUs."""

    @staticmethod
    def forward(ctx, gamma: Tensor, beta: Tensor,
                min_gamma_sum: float) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(gamma, beta)
        ctx.bound = min_gamma_sum
        return torch.ops.mmdet_scconv.sru_gate_affine(gamma, beta, ctx.bound)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        return *torch.ops.mmdet_scconv.sru_gate_affine_backward(
            *grads, *ctx.saved_tensors, ctx.bound), None


class Gate(NamedTuple):
    """The SRU, with w_gamma folded into its GroupNorm's weight and bias.

    Args:
        weight (Tensor): (C, ), of the dtype to compute in.
        bias (Tensor): (C, ), of the same.
        groups (int): Of the GroupNorm.
        eps (float): Of the GroupNorm.
        threshold (float): Of the logits.
        sizes (tuple): Channels that go up, and low.
    """

    weight: Tensor
    bias: Tensor
    groups: int
    eps: float
    threshold: float
    sizes: tuple[int, int]

    @classmethod
    def of(cls, sru: nn.Module, cru: nn.Module, x: Tensor) -> 'Gate':
        """The SRU's gate of an input, at least in float32, and how the CRU
        splits its output."""
        gn = sru.gn
        if cpu.fits(x) and not is_traced() and are_float32(
                (gn.weight, gn.bias)):
            affine = GateAffine.apply(gn.weight, gn.bias, sru.min_gamma_sum)
        else:
            affine = sru.gate_affine(
                torch.promote_types(x.dtype, torch.float32))
        return cls(*affine, gn.num_groups, gn.eps, sru.gate_logit_threshold,
                   (cru.up_channels, cru.low_channels))

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) -> the parts of the output that go up and low."""
        if is_exporting():  # in terms that ONNX has
            wide = x.to(self.weight.dtype)
            logits = torch.group_norm(wide, self.groups, self.weight,
                                      self.bias, self.eps)
            kept = torch.where(logits > self.threshold, wide, 0)
            both = sum(((wide - kept) * logits.sigmoid()).chunk(2, dim=1))
            halves = [(k + both).to(x.dtype) for k in kept.chunk(2, dim=1)]
        else:
            halves = SRUGate.apply(x, *self[:5])
        if self.sizes[0] == self.sizes[1]:
            return tuple(halves)
        return torch.cat(halves, dim=1).split(self.sizes, dim=1)
