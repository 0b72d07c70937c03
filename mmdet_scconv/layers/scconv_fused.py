"""SCConv with fewer passes over memory; equal to the reference in scconv.py.

What makes the plain form slow is not its arithmetic but how often it reads
and writes whole feature maps. Two things save most of them:

- The SRU's gate needs one GroupNorm with folded weights and a few vectorised
  passes, hands its two halves on apart, and saves nothing but its input for
  the backward pass, which computes the gate anew.
- Where its BatchNorms use running statistics, the CRU is affine up to the
  softmax. So the means of Y1 and Y2 follow from sums over the narrow squeezed
  maps, before Y1 and Y2 exist, and the softmax's weights and all BatchNorms
  go into the weights of one grouped and one point-wise convolution.
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from . import kernels


class SRUGate(torch.autograd.Function):
    """The SRU behind its folded weights: both halves of the output.

    With the logits z, m = (z > threshold), q = (1 - m) sigmoid(z) x and the
    halves 1 and 2 of the channels: out_i = m_i x_i + q_1 + q_2.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, groups: int,
                eps: float, threshold: float) -> tuple[Tensor, Tensor]:
        ctx.options = groups, eps, threshold
        if kernels.fits(x):
            *halves, affine, moments = torch.ops.mmdet_scconv.sru_gate(
                x, weight, bias, groups, eps, threshold)
            ctx.save_for_backward(x, weight, affine, moments)
            return tuple(halves)
        ctx.save_for_backward(x, weight, bias)
        logits = F.group_norm(x, groups, weight, bias, eps)
        # logits > threshold ? x : 0, in one pass, unlike torch.where's two
        kept = torch.ops.aten.threshold_backward(x, logits, threshold)
        damped = (x - kept).mul_(logits.sigmoid_())
        half = x.shape[1] // 2
        both = damped[:, :half] + damped[:, half:]
        return kept[:, :half] + both, kept[:, half:] + both

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        groups, eps, threshold = ctx.options
        if len(ctx.saved_tensors) == 4:  # of the kernel
            return *torch.ops.mmdet_scconv.sru_gate_backward(
                *grads, *ctx.saved_tensors, threshold), None, None, None
        x, weight, bias = ctx.saved_tensors
        # the native calls read all maps in one layout, whatever they have
        layout = torch.channels_last if x.is_contiguous(
            memory_format=torch.channels_last) else torch.contiguous_format
        x, *grads = (t.contiguous(memory_format=layout) for t in (x, *grads))
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
                list(ctx.needs_input_grad[:3]))
        if through_norm is not None:
            grad_x += through_norm
        return grad_x, grad_weight, grad_bias, None, None, None


def uses_running_statistics(norm: nn.Module) -> bool:
    """Whether a norm is affine with known numbers (or gone, after fusion)."""
    if isinstance(norm, nn.Identity):
        return True
    return (isinstance(norm, _BatchNorm) and not norm.training
            and norm.running_mean is not None)


def is_affine(cru: nn.Module) -> bool:
    """Whether :func:`affine_cru` can stand for the CRU's ``forward``."""
    return all(map(uses_running_statistics,
                   (cru.squeeze_up_bn, cru.squeeze_low_bn, cru.bn1, cru.bn2)))


def scale_and_shift(norm: nn.Module, like: Tensor) -> tuple[Tensor, Tensor]:
    """What a BatchNorm multiplies and adds; two vectors (channels, )."""
    if isinstance(norm, nn.Identity):
        return like.new_ones(()), like.new_zeros(())
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    return scale, shift


def squeeze(x: Tensor, conv: nn.Conv2d, norm: nn.Module) -> Tensor:
    """The 1x1 convolution and the norm behind it in one pass."""
    scale, shift = scale_and_shift(norm, conv.weight)
    return F.conv2d(x, conv.weight * scale.view(-1, 1, 1, 1),
                    conv.bias * scale + shift)


def tap_selection(size: int, conv: nn.Conv2d, axis: int,
                  like: Tensor) -> Tensor:
    """Which of ``size`` positions each tap of a kernel sees, averaged over
    the outputs: (kernel_size, size)."""
    kernel, stride = conv.kernel_size[axis], conv.stride[axis]
    outputs = (size - 1) // stride + 1  # "same" padding
    taps = torch.arange(kernel, device=like.device) * conv.dilation[axis]
    # padding of the tap's first position, to the output that sees it
    offset = torch.arange(size, device=like.device) + conv.padding[axis] \
        - taps.view(-1, 1)
    seen = (offset >= 0) & (offset % stride == 0) & (
        offset < outputs * stride)
    return seen.to(like.dtype) / outputs


def mean_of_conv(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Global mean of a bias-free convolution's output, without the output.

    Sums over the windows that the taps see, then the weights: (N, out).
    """
    n, c, h, w = x.shape
    rows = tap_selection(h, conv, 0, x) @ x.permute(0, 2, 3, 1).reshape(
        n, h, w * c)
    # (N, kernel height, W, C) -> (N, kernel height, kernel width, C)
    sums = tap_selection(w, conv, 1, x) @ rows.view(n, -1, w, c)
    weight = conv.weight.to(sums.dtype)
    sums = sums.view(n, *conv.kernel_size, conv.groups, -1)
    weight = weight.view(conv.groups, -1, *weight.shape[1:])
    return torch.einsum('nhwgc,gochw->ngo', sums, weight).flatten(1)


def affine_cru(cru: nn.Module, up: Tensor, low: Tensor) -> Tensor:
    """The CRU with running statistics: neither Y1 nor Y2 is computed.

    Y = GWC'(up) + [PWC1' | PWC2' | I'] cat(pooled up, low), where the
    weights hold the BatchNorms and, sample by sample, the softmax.

    Args:
        cru (nn.Module): A CRU for which :func:`is_affine` holds.
        up (Tensor): (N, up_channels, H, W).
        low (Tensor): (N, low_channels, H, W).

    Shape: -> (N, out_channels, ceil(H / stride), ceil(W / stride)).
    """
    up = squeeze(up, cru.squeeze_up, cru.squeeze_up_bn)
    low = squeeze(cru.pool(low), cru.squeeze_low, cru.squeeze_low_bn)
    points = torch.cat([cru.pool(up), low], dim=1)
    width, dtype = up.shape[1], cru.gwc.weight.dtype
    pwc1, pwc2 = cru.pwc1.weight.flatten(1), cru.pwc2.weight.flatten(1)
    eye = torch.eye(pwc2.shape[1], dtype=dtype, device=up.device)
    # of the narrow means, in the weights' precision also under autocast
    with torch.autocast(up.device.type, enabled=False):
        scale1, shift1 = scale_and_shift(cru.bn1, cru.gwc.weight)
        scale2, shift2 = scale_and_shift(cru.bn2, cru.gwc.weight)
        mean = points.mean((2, 3)).to(dtype)
        mean_low = mean[:, width:]
        low_weight = torch.cat([pwc2, eye])
        low_bias = F.pad(cru.pwc2.bias, (0, eye.shape[0]))
        mean1 = mean_of_conv(up, cru.gwc).to(dtype) + mean[:, :width] @ pwc1.T
        mean2 = mean_low @ low_weight.T + low_bias
        beta = torch.softmax(
            torch.stack([
                mean1 * scale1 + shift1,
                mean2 * scale2 + shift2,
            ]), dim=0)
        factor1, factor2 = beta[0] * scale1, beta[1] * scale2  # (N, out)
        weight = torch.cat([
            factor1.unsqueeze(2) * pwc1,
            factor2.unsqueeze(2) * low_weight
        ], dim=2)
        bias = beta[0] * shift1 + beta[1] * shift2 + factor2 * low_bias
    gwc, options = cru.gwc.weight, (cru.gwc.stride, cru.gwc.padding,
                                    cru.gwc.dilation, cru.gwc.groups)
    if up.shape[0] == 1:
        out = F.conv2d(up, gwc * factor1.view(-1, 1, 1, 1), bias[0], *options)
    else:
        shape = (*factor1.shape, 1, 1)
        out = F.conv2d(up, gwc, None, *options)
        out = torch.addcmul(
            bias.view(shape).to(out.dtype), out,
            factor1.view(shape).to(out.dtype))
    weight = weight.to(out.dtype)
    if torch.compiler.is_compiling():
        # a product in the layout of the map, and a sum that fuses with what
        # follows
        product = points.permute(0, 2, 3, 1).flatten(1, 2) @ weight.mT
        return out + product.unflatten(1, out.shape[2:]).permute(0, 3, 1, 2)
    # in place, which also keeps the layout of the map
    out.flatten(2).baddbmm_(weight, points.flatten(2))
    return out
