"""SCConv with fewer passes over memory; equal to the definition, scconv.py.

The definition is slow because it reads and writes whole feature maps many
times, not because of its arithmetic.

Which path runs (``units='S+C'``; other units always run the definition):

==================================== =======================================
mode                                 path
==================================== =======================================
eval                                 SRU gate, affine CRU
training, running statistics         SRU gate, affine CRU; maps that are
                                     cheap to compute are computed again in
                                     the backward pass
training, batch statistics; inner    SRU gate, CRU of the definition
norms other than BatchNorm
torch.compile                        as above, but that nothing is computed
                                     again and the CPU's kernel is one
                                     operator of the graph
torch.export, ONNX                   as above, the gate in operators that
                                     ONNX has; no kernels of GPUs
torch.jit.trace                      as above, but that nothing is computed
                                     again; no kernels of GPUs
autocast                             as without; gate and softmax at least
                                     in float32
hooks or parametrizations inside     the definition, which runs them
an empty input, the meta device      the definition
second derivatives                   an error: ``implementation='reference'``
                                     has them
GPU, running statistics, Triton      kernels/triton_scconv where it fits and
                                     was right when compared, else as
                                     without it
GPU, batch statistics, Triton        kernels for the SRU, and for what
                                     follows the CRU's convolutions; except
                                     under torch.compile, which fuses
                                     PyTorch's operators
CPU, float32 or bfloat16,            as above; kernels/cpu_sru.cpp is the SRU
channels_last, kernels compiled      gate, cpu_cru.cpp what the affine CRU
                                     computes beside its convolutions (but
                                     where something is traced or compiled)
deployed (``switch_to_deploy``)      deployed.py: as eval, all that does not
                                     depend on the input computed before;
                                     on a GPU by kernels as above
``implementation='torch'``           as above, without kernels of GPUs
``implementation='reference'``       the definition
==================================== =======================================

:func:`can_fuse`, :func:`fused_scconv` and the ``*_by_kernels`` of
kernels/gpu.py and gpu_batches.py take these decisions.
"""
from torch import Tensor, nn

from ..common import is_hooked
from ..kernels import gpu, gpu_batches
from .affine_cru import (
    AffineCRU,
    Geometry,
    affine_scconv,
    fold_norms,
    is_affine,
    uses_running_statistics,
)
from .cpu_cru import fold_by_kernel
from .deployed import DeployedSCConv
from .sru_gate import Gate

__all__ = [
    'DeployedSCConv', 'can_deploy', 'can_fuse', 'fused_scconv',
    'uses_running_statistics'
]


def has_hooks(layer: nn.Module) -> bool:
    """Whether a submodule has hooks or parametrizations."""
    for child in layer._modules.values():  # any() of it takes twice as long
        if is_hooked(child) or (child._modules and has_hooks(child)):
            return True
    return False


def can_fuse(layer: nn.Module, x: Tensor) -> bool:
    """Whether :func:`fused_scconv` may run in place of the definition.

    Args:
        layer (nn.Module): An SCConv.
        x (Tensor): (N, C, H, W).
    """
    return (layer.units == 'S+C' and layer.implementation != 'reference'
            and x.numel() > 0 and not x.is_meta and not has_hooks(layer))


def fused_scconv(layer: nn.Module, x: Tensor) -> Tensor:
    """An SCConv for which :func:`can_fuse` holds, without its bias.

    Shape: as SCConv's.
    """
    out = gpu.by_kernels(layer, x)
    if out is not None:
        return out
    cru = layer.cru
    if not is_affine(cru):
        parts = gpu_batches.sru_by_kernels(layer, x)
        if parts is None:
            parts = gate_of(layer, x)(x)
        out = gpu_batches.cru_by_kernels(layer, *parts)
        return cru.reference(*parts) if out is None else out
    folded = fold_by_kernel(layer, x)
    weights = fold_norms(cru) if folded is None else AffineCRU(*folded)
    return affine_scconv(gate_of(layer, x), weights, Geometry.of(cru.gwc),
                         cru.pool, x)


def gate_of(layer: nn.Module, x: Tensor) -> Gate:
    """An SCConv's gate of an input."""
    return Gate.of(layer.sru, layer.cru, x)


def can_deploy(layer: nn.Module, norm: nn.Module) -> bool:
    """Whether a DeployedSCConv can be made of an SCConv and the norm behind
    it."""
    return (layer.units == 'S+C' and is_affine(layer.cru)
            and uses_running_statistics(norm))
