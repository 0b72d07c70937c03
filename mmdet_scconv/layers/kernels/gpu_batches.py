"""Where the norms inside an SCConv use the statistics of the batch: what runs
as Triton kernels on a GPU, around cuDNN's convolutions.

In eager mode: a compiler fuses PyTorch's operators itself.
"""
import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..common import is_recorded
from .compare import Subject
from .gpu import can_fit, compared, may_run, use_of
from .parameters import SRUOptions, compute_dtype, has_affine, norm_tensors


def is_eager(conv: nn.Module, x: Tensor) -> bool:
    """Whether there can be kernels for an input, and no compiler runs."""
    return may_run(conv, x) and not torch.compiler.is_compiling()


def sru_by_kernels(conv: nn.Module,
                   x: Tensor) -> tuple[Tensor, Tensor] | None:
    """The parts of the SRU's output that go up and low, by the kernels; None
    where PyTorch's operators have to compute them.

    Args:
        conv (nn.Module): An SCConv that :func:`gpu.by_kernels` is not for.
        x (Tensor): (N, C, H, W).
    """
    sru, channels = conv.sru, conv.in_channels
    tensors = [sru.gn.weight, sru.gn.bias]
    if not (is_eager(conv, x) and has_affine(sru.gn)
            and can_fit(x, channels, channels, tensors, compute_dtype(x))):
        return None
    options = SRUOptions(sru.gn.num_groups, conv.cru.up_channels, sru.gn.eps,
                         sru.gate_logit_threshold)
    if not compared(
            ('SRU', channels, options), use_of(x, is_recorded(x, *tensors)),
            lambda: Subject(
                sru,
                lambda sru, x: torch.cat(run_sru(sru, x, options), dim=1),
                lambda sru, x: sru(x))):
        return None
    return run_sru(sru, x, options)


def run_sru(sru: nn.Module, x: Tensor,
            options: SRUOptions) -> tuple[Tensor, Tensor]:
    """:func:`sru_by_kernels` without its conditions."""
    from . import triton_scconv
    return triton_scconv.sru(x, options, compute_dtype(x), sru.gn.weight,
                             sru.gn.bias)


def cru_by_kernels(conv: nn.Module, up: Tensor, low: Tensor) -> Tensor | None:
    """The CRU, its norms behind the convolutions and its fuse by the kernels;
    None where PyTorch's operators have to compute them.

    Args:
        conv (nn.Module): An SCConv that :func:`gpu.by_kernels` is not for.
        up, low (Tensor): The parts of the SRU's output.
    """
    cru, out_channels = conv.cru, conv.out_channels
    norms, dtype = (cru.bn1, cru.bn2), compute_dtype(up)
    if not (is_eager(conv, up) and all(map(has_batch_statistics, norms))
            and can_fit(up, cru.up_channels,
                        max(conv.in_channels, out_channels),
                        [t for norm in norms for t in (
                            *norm_tensors(norm), norm.num_batches_tracked)],
                        dtype)):
        return None
    if up.shape[0] * math.prod(
            math.ceil(size / stride)
            for size, stride in zip(up.shape[2:], conv.stride)) == 1:
        return None  # BatchNorm raises an error
    widths = [out_channels, out_channels, cru.pwc2.out_channels,
              cru.squeeze_low.out_channels]
    if not compared(
            ('end of the CRU', 3 * out_channels, widths[3]),
            use_of(up, torch.is_grad_enabled())._replace(dtype=dtype),
            lambda: Subject(
                nn.ModuleDict(dict(bn1=cru.bn1, bn2=cru.bn2, fuse=cru.fuse)),
                lambda end, maps: run_end_of_cru(
                    end, *maps.split(widths, dim=1)),
                define_end_of_cru)):
        return None
    up = cru.squeeze_up_bn(cru.squeeze_up(up))
    low = cru.squeeze_low_bn(cru.squeeze_low(cru.pool(low)))
    return run_end_of_cru(cru, cru.gwc(up), cru.pwc1(cru.pool(up)),
                          cru.pwc2(low), low)


def has_batch_statistics(norm: nn.Module) -> bool:
    """Whether a norm is a BatchNorm that uses the statistics of this
    process's batch, and updates running ones."""
    return (isinstance(norm, _BatchNorm) and norm.training
            # not SyncBatchNorm, and no class of somebody else's
            and type(norm).forward is _BatchNorm.forward
            and norm.track_running_stats and norm.momentum is not None
            and norm.running_mean is not None
            and norm.num_batches_tracked is not None and has_affine(norm))


def run_end_of_cru(end: nn.Module, *maps: Tensor) -> Tensor:
    """Norms and fuse of the outputs of GWC, PWC1 and PWC2, and of low.

    Args:
        end (nn.Module): A CRU, or its norms and fuse alone.
        maps (Tensor): Those four.
    """
    from . import triton_scconv
    return triton_scconv.norm_fuse(*maps, end.bn1, end.bn2)


def define_end_of_cru(end: nn.Module, maps: Tensor) -> Tensor:
    """:func:`run_end_of_cru` without kernels, of the concatenated maps."""
    gwc, pwc1, second = maps.chunk(3, dim=1)
    return end.fuse(end.bn1(gwc + pwc1), end.bn2(second))
