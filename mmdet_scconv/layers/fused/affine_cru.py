"""The CRU whose BatchNorms use running statistics, with fewer passes over
memory.

Up to the softmax the CRU is affine. Therefore the means of Y1 and Y2 can be
computed from sums over the narrow squeezed maps, without Y1 and Y2. The
softmax's weights and all BatchNorms are multiplied into the weights of one
grouped and one point-wise convolution.

No more memory is kept for the backward pass than by a dense convolution: the
gate and the squeezes are cheap and are computed again.
"""
from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from ..common import is_traced
from . import cpu_cru
from .recomputed import Recomputed, records_eagerly
from .sru_gate import Gate


def uses_running_statistics(norm: nn.Module) -> bool:
    """Whether a norm is affine with fixed numbers, or was folded."""
    if isinstance(norm, nn.Identity):
        return True
    return (isinstance(norm, _BatchNorm) and not norm.training
            and norm.running_mean is not None)


def is_affine(cru: nn.Module) -> bool:
    """Whether :func:`affine_scconv` is possible: all norms use running
    statistics."""
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


class Geometry(NamedTuple):
    """What ``F.conv2d`` takes behind weight and bias, and the kernel's size.
    """

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @classmethod
    def of(cls, conv: nn.Conv2d) -> 'Geometry':
        return cls(*(getattr(conv, name) for name in cls._fields))


class AffineCRU(NamedTuple):
    """A CRU with its norms folded into the weights, u and t channels wide
    behind the squeezes. With the softmax's beta:

    Y = scale (beta_1 (gwc(up) + pwc1 up + bias1)
               + beta_2 (pwc2 low + bias2)) + shift

    pwc2, (out, t), ends with the rows that pass ``low`` on.
    """

    squeeze_up_weight: Tensor
    squeeze_up_bias: Tensor
    squeeze_low_weight: Tensor
    squeeze_low_bias: Tensor
    gwc: Tensor
    pwc1: Tensor
    bias1: Tensor
    pwc2: Tensor
    bias2: Tensor
    scale: Tensor | None = None
    shift: Tensor | None = None


def fold_norms(cru: nn.Module) -> AffineCRU:
    """Weights of a CRU for which :func:`is_affine` holds; differentiable."""
    squeezes = []
    for conv, norm in ((cru.squeeze_up, cru.squeeze_up_bn),
                       (cru.squeeze_low, cru.squeeze_low_bn)):
        scale, shift = scale_and_shift(norm, conv.weight)
        squeezes += [conv.weight * scale.view(-1, 1, 1, 1),
                     conv.bias * scale + shift]
    scale1, bias1 = scale_and_shift(cru.bn1, cru.gwc.weight)
    scale2, shift2 = scale_and_shift(cru.bn2, cru.gwc.weight)
    pwc2 = cru.pwc2.weight.flatten(1)
    passed_on = torch.eye(pwc2.shape[1], dtype=pwc2.dtype, device=pwc2.device)
    out_channels = cru.gwc.out_channels
    return AffineCRU(
        *squeezes,
        gwc=cru.gwc.weight * scale1.view(-1, 1, 1, 1),
        pwc1=cru.pwc1.weight.flatten(1) * scale1.view(-1, 1),
        bias1=bias1.expand(out_channels),
        pwc2=torch.cat([pwc2, passed_on]) * scale2.view(-1, 1),
        bias2=F.pad(cru.pwc2.bias, (0, pwc2.shape[1])) * scale2 + shift2)


def tap_selection(size: int, conv: Geometry, axis: int,
                  like: Tensor) -> Tensor:
    """How often each tap of a kernel sees each of ``size`` positions, divided
    by the number of outputs: (kernel_size, size)."""
    kernel, stride = conv.kernel_size[axis], conv.stride[axis]
    outputs = (size - 1) // stride + 1  # "same" padding
    taps = torch.arange(kernel, device=like.device) * conv.dilation[axis]
    # padding of the tap's first position, to the output that sees it
    offset = torch.arange(size, device=like.device) + conv.padding[axis] \
        - taps.view(-1, 1)
    seen = (offset >= 0) & (offset % stride == 0) & (
        offset < outputs * stride)
    return seen.to(like.dtype) / outputs


def mean_of_conv(x: Tensor, conv: Geometry, weight: Tensor) -> Tensor:
    """Global mean of a bias-free convolution's output, without the output.

    Sums over the windows that the taps see, then the weights: (N, out).
    """
    n, c, h, w = x.shape
    kernel_height, kernel_width = conv.kernel_size
    rows = tap_selection(h, conv, 0, x) @ x.permute(0, 2, 3, 1).reshape(
        n, h, w * c)
    # (N, kernel height, W, C) -> (N, kernel height, kernel width, C)
    sums = tap_selection(w, conv, 1, x) @ rows.view(
        n, kernel_height, w, c)
    weight = weight.to(sums.dtype)
    sums = sums.view(n, kernel_height, kernel_width, conv.groups,
                     c // conv.groups)
    weight = weight.view(conv.groups, -1, *weight.shape[1:])
    return torch.einsum('nhwgc,gochw->ngo', sums, weight).flatten(1)


def squeezed_maps(weights: AffineCRU, gwc: Geometry, pool: nn.Module,
                  gate: Gate, traced: bool, x: Tensor) -> Iterator[Tensor]:
    """SRU, squeezes and pooling.

    ``traced`` is asked for before: the backward pass alone may be traced.

    Yields both parts of the SRU's output, the map that is pooled, then the
    results: up, (N, u, H, W), and cat(pooled up, low), (N, u + t, ceil(H /
    stride), ceil(W / stride)); by the kernels for CPUs also the means that
    the softmax needs, see ``Join``.
    """
    up, low = gate(x)
    yield from (up, low)
    pooled = pool(low)
    yield pooled
    up = F.conv2d(up, weights.squeeze_up_weight, weights.squeeze_up_bias)
    yield up
    low = F.conv2d(pooled, weights.squeeze_low_weight,
                   weights.squeeze_low_bias)
    pooled = pool(up)
    if not traced and cpu_cru.fits(up, low, weights[4:]):
        yield from cpu_cru.Join.apply(
            up, None if pooled is up else pooled, low, gwc[:4])
    else:
        yield torch.cat([pooled, low], dim=1)


def affine_scconv(gate: Gate, weights: AffineCRU, gwc: Geometry,
                  pool: nn.Module, x: Tensor) -> Tensor:
    """SRU, then the CRU with running statistics: neither Y1 nor Y2 is
    computed.

    Y = GWC'(up) + [PWC1' | PWC2'] cat(pooled up, low), where the weights
    hold, sample by sample, the softmax.

    Args:
        gate (Gate): The SRU: x to the parts that go up and low.
        weights (AffineCRU): Of :func:`fold_norms`.
        gwc (Geometry): Of the GWC.
        pool (nn.Module): The CRU's pooling.
        x (Tensor): (N, C, H, W).

    Shape: -> (N, out_channels, ceil(H / stride), ceil(W / stride)).
    """
    make_maps = partial(squeezed_maps, weights, gwc, pool, gate, is_traced())
    if records_eagerly(x, *gate[:2], *weights):
        with Recomputed(make_maps, x) as maps:
            return fuse(weights, gwc, *maps[3:])
    _, _, _, *maps = make_maps(x)
    return fuse(weights, gwc, *maps)


def fuse(weights: AffineCRU, gwc: Geometry, up: Tensor, points: Tensor,
         *means: Tensor) -> Tensor:
    """The end of :func:`affine_scconv`, from :func:`squeezed_maps`."""
    if not means:
        return fuse_maps(weights, gwc, up, points)
    kernel, bias, weight = cpu_cru.FuseWeights.apply(
        up.dtype, *means, *weights[4:])
    return fuse_samples(gwc, up, points, kernel.split(weight.shape[1]), bias,
                        weight)


def fuse_maps(weights: AffineCRU, gwc: Geometry, up: Tensor,
              points: Tensor) -> Tensor:
    """:func:`fuse` in PyTorch's operators."""
    width, dtype = up.shape[1], weights.gwc.dtype
    # of the narrow means, in the weights' precision also under autocast
    with torch.autocast(up.device.type, enabled=False):
        mean_up, mean_low = points.mean((2, 3)).to(dtype).split(
            [width, points.shape[1] - width], dim=1)
        mean1 = mean_of_conv(up, gwc, weights.gwc).to(dtype) \
            + F.linear(mean_up, weights.pwc1, weights.bias1)
        mean2 = F.linear(mean_low, weights.pwc2, weights.bias2)
        beta = torch.softmax(torch.stack([mean1, mean2]), dim=0)
        bias = beta[0] * weights.bias1 + beta[1] * weights.bias2
        if weights.scale is not None:
            beta = beta * weights.scale
            bias = bias * weights.scale + weights.shift
        factor = beta[0]  # (N, out)
        weight = torch.cat([
            factor.unsqueeze(2) * weights.pwc1,
            beta[1].unsqueeze(2) * weights.pwc2
        ], dim=2)
    # factors after the convolution would need its output for their gradient;
    # on a GPU launches for each sample would take longer
    by_sample = up.device.type == 'cpu' and up.shape[0] > 0 and \
        records_eagerly(up, points, *weights)
    if by_sample or (up.shape[0] == 1 and not torch.jit.is_tracing()):
        kernels = factor.view(*factor.shape, 1, 1, 1) * weights.gwc
        return fuse_samples(gwc, up, points, kernels, bias, weight)
    shape = (*factor.shape, 1, 1)
    out = F.conv2d(up, weights.gwc, None, *gwc[1:])
    out = torch.addcmul(
        bias.view(shape).to(out.dtype), out,
        factor.view(shape).to(out.dtype))
    return add_points(out, points, weight)


def fuse_samples(gwc: Geometry, up: Tensor, points: Tensor,
                 kernels: Iterable[Tensor], bias: Tensor,
                 weight: Tensor) -> Tensor:
    """Both convolutions, the GWC image by image, as its weights hold the
    softmax.

    Args:
        kernels (Iterable): Of the GWC, (out, u / groups, kh, kw) each.
        bias (Tensor): (N, out).
        weight (Tensor): (N, out, u + t).
    """
    images = [F.conv2d(*image, *gwc[1:])
              for image in zip(up.split(1), kernels, bias)]
    out = images[0] if len(images) == 1 else torch.cat(images)
    return add_points(out, points, weight)


def add_points(out: Tensor, points: Tensor, weight: Tensor) -> Tensor:
    """Add a point-wise convolution with weights of each sample.

    Args:
        out (Tensor): (N, out_channels, H, W); may be overwritten.
        points (Tensor): (N, C, H, W).
        weight (Tensor): (N, out_channels, C).
    """
    weight = weight.to(out.dtype)
    if torch.compiler.is_compiling():
        # a sum that fuses with what follows
        product = to_pixels(points) @ weight.mT
        return out + product.unflatten(1, out.shape[2:]).permute(0, 3, 1, 2)
    if torch.jit.is_tracing():  # a trace may get the other layout
        out.flatten(2).baddbmm_(weight, points.flatten(2))
        return out
    return AddPoints.apply(out, points, weight)


def to_pixels(maps: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H * W, C), a view in channels_last."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2)


class AddPoints(torch.autograd.Function):
    """:func:`add_points`, in place, and in the layout of the map: the
    transposed product has no fast form for bfloat16 on CPUs.

    Autograd would copy the gradient of a view that was changed in place, and
    give the other layout to that of the points.
    """

    @staticmethod
    def forward(ctx, out: Tensor, points: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(points, weight)
        ctx.mark_dirty(out)
        ctx.layout = torch.channels_last if out.is_contiguous(
            memory_format=torch.channels_last) else torch.contiguous_format
        if ctx.layout == torch.channels_last:
            to_pixels(out).baddbmm_(to_pixels(points), weight.mT)
        else:
            out.flatten(2).baddbmm_(weight, points.flatten(2))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        points, weight = ctx.saved_tensors
        maps = grad.contiguous(memory_format=ctx.layout)
        if ctx.layout == torch.channels_last:
            pixels = to_pixels(maps)
            of_points = (pixels @ weight).unflatten(
                1, maps.shape[2:]).permute(0, 3, 1, 2)
            return grad, of_points, pixels.mT @ to_pixels(points)
        maps = maps.flatten(2)
        of_points = (weight.mT @ maps).unflatten(2, grad.shape[2:])
        return grad, of_points, maps @ points.flatten(2).mT
