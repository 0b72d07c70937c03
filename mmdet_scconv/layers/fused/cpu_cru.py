"""What :mod:`affine_cru` computes beside its convolutions, by the kernels for
CPUs: a few calls in place of some hundred small operators."""
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..common import are_float32, is_traced
from ..kernels import cpu
from ..kernels.parameters import (
    compute_dtype,
    has_running_statistics,
    numbers_of,
    tensors_of,
)


def fold_by_kernel(conv: nn.Module, x: Tensor) -> list[Tensor] | None:
    """What ``fold_norms`` gives of an SCConv's CRU, in the order of
    AffineCRU, the weights of the squeezes in the dtype of the maps; None where
    PyTorch's operators have to compute it.

    Args:
        x (Tensor): The SCConv's input.
    """
    if not (cpu.fits(x) and not is_traced() and has_running_statistics(conv)):
        return None
    dtype, tensors = compute_dtype(x), tensors_of(conv)[2:]
    if dtype not in cpu.DTYPES or not are_float32(tensors) or not (
            dtype == torch.float32 or torch.is_autocast_enabled('cpu')):
        return None
    return FoldNorms.apply(dtype, numbers_of(conv)[1:5], *tensors)


class FoldNorms(torch.autograd.Function):
    """The weights of a CRU with its BatchNorms multiplied in.

    Args:
        dtype (torch.dtype): Of the squeezes' weights.
        eps (tuple): Of the four BatchNorms.
        tensors (Tensor): Of the CRU, see ``tensors_of``.

    Returns:
        tuple: In the order of AffineCRU, without scale and shift.
    """

    @staticmethod
    def forward(ctx, dtype: torch.dtype, eps: tuple[float, ...],
                *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.eps = eps
        ctx.save_for_backward(*tensors)
        return tuple(torch.ops.mmdet_scconv.cru_fold_norms(
            tensors, eps, dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        return None, None, *torch.ops.mmdet_scconv.cru_fold_norms_backward(
            grads, ctx.saved_tensors, ctx.eps)


def fits(up: Tensor, low: Tensor, weights: tuple[Tensor | None, ...]) -> bool:
    """Whether the kernels can and should be used, if nothing is traced.

    Args:
        up, low (Tensor): The squeezed maps.
        weights (tuple): Those of AffineCRU from ``gwc`` on.
    """
    return (up.device.type == 'cpu' and up.dtype in cpu.DTYPES
            and up.dtype == low.dtype and up.numel() > 0
            and are_float32(w for w in weights if w is not None)
            and cpu.fits(low))


class Join(torch.autograd.Function):
    """The map that the point-wise convolutions see, and means.

    Args:
        up (Tensor): (N, u, H, W).
        pooled (Tensor): The same, pooled; None if there is no stride.
        low (Tensor): (N, t, H', W').
        geometry (tuple): Size, stride, padding and dilation of the GWC.

    Returns:
        tuple: cat(pooled, low), (N, u + t, H', W'); the means of what each
        tap of the GWC sees of ``up``, (N, taps, u); those of the first, (N,
        u + t). The means are float32.
    """

    @staticmethod
    def forward(ctx, up: Tensor, pooled: Tensor | None, low: Tensor,
                geometry: tuple) -> tuple[Tensor, Tensor, Tensor]:
        ctx.options = up.shape[2:], *geometry, pooled is not None
        return torch.ops.mmdet_scconv.cru_join(up, pooled, low, *geometry)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        up, pooled, low = torch.ops.mmdet_scconv.cru_join_backward(
            *grads, *ctx.options)
        return up, pooled if ctx.options[-1] else None, low, None


class FuseWeights(torch.autograd.Function):
    """Weights of the two convolutions that give the output, sample by sample.

    Args:
        dtype (torch.dtype): Of the result: that of the maps.
        taps, means (Tensor): Of :class:`Join`.
        weights (Tensor): Those of AffineCRU from ``gwc`` on.

    Returns:
        tuple: Of the GWC, (N out, u / groups, kh, kw); the bias, (N, out); of
        the point-wise convolution, (N, out, u + t).
    """

    @staticmethod
    def forward(ctx, dtype: torch.dtype, taps: Tensor, means: Tensor,
                *weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        *fused, beta = torch.ops.mmdet_scconv.cru_fuse_weights(
            taps, means, *weights, dtype)
        ctx.save_for_backward(taps, means, *weights[:6], beta)
        return tuple(fused)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        return (None, *torch.ops.mmdet_scconv.cru_fuse_weights_backward(
            *grads, *ctx.saved_tensors), None, None)
