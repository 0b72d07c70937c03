"""SCConv with fewer passes over memory; equal to the definition, scconv.py.

What makes the plain form slow is not its arithmetic but how often it reads
and writes whole feature maps.

Which path runs (``units='S+C'``; other units always run the definition):

==================================== =======================================
mode                                 path
==================================== =======================================
eval                                 SRU gate, affine CRU
training, running statistics         SRU gate, affine CRU; cheap maps are
                                     computed again in the backward pass
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
hooks or parametrizations inside     the definition, which calls them
an empty input, the meta device      the definition
GPU, running statistics, Triton      kernels/triton_scconv.py where they fit
                                     and were right when compared, else as
                                     without them
CPU, float32, channels_last, kernel  kernels/cpu.cpp is the SRU gate
compiled
deployed (``switch_to_deploy``)      deployed.py: as eval, all that does not
                                     depend on the input computed before;
                                     on a GPU by kernels as above
``implementation='torch'``           as above, without kernels of GPUs
``implementation='reference'``       the definition
==================================== =======================================

:meth:`SCConv.forward` and :meth:`SCConv.fused_forward` take these decisions,
:func:`..kernels.choose` that for a kernel.
"""
from torch import nn

from ..common import is_hooked
from .affine_cru import (
    Geometry,
    affine_scconv,
    fold_norms,
    is_affine,
    uses_running_statistics,
)
from .deployed import DeployedSCConv
from .sru_gate import Gate

__all__ = [
    'DeployedSCConv', 'Gate', 'Geometry', 'affine_scconv', 'fold_norms',
    'has_hooks', 'is_affine', 'uses_running_statistics'
]


def has_hooks(layer: nn.Module) -> bool:
    """Whether something waits for the calls of a layer's submodules."""
    return any(
        is_hooked(child) or has_hooks(child)
        for child in layer._modules.values())
