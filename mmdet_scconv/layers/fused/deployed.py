"""SCConv for inference: what does not depend on the input is computed once.
"""
import torch
from torch import Tensor, nn

from ..kernels import gpu
from ..kernels.parameters import options_of
from .affine_cru import (
    AffineCRU,
    Geometry,
    affine_scconv,
    fold_norms,
    scale_and_shift,
)
from .sru_gate import Gate


class DeployedSCConv(nn.Module):
    """An SCConv and the BatchNorm behind it, in eval mode.

    Made by :meth:`SCConv.deploy`. Holds buffers only, in their final form:
    the norms inside and behind the CRU are folded into its weights, the SRU's
    w_gamma into its GroupNorm. Cannot be trained or turned back.

    Args:
        conv (SCConv): With units 'S+C' and BatchNorms with running
            statistics.
        norm (nn.Module): The BatchNorm behind it.

    Shape: as the SCConv's.
    """

    deployed = True

    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        cru = conv.cru
        self.gwc_geometry, self.pool = Geometry.of(cru.gwc), cru.pool
        self.out_channels = conv.out_channels
        # made here, as it is read from the SCConv
        self.triton_options = options_of(conv)
        self.implementation = conv.implementation
        with torch.no_grad():
            gate = Gate.of(conv.sru, cru, cru.gwc.weight)
            self.gate_options = gate[2:]
            weights = fold_norms(cru)
            scale, shift = scale_and_shift(norm, weights.gwc)
            if conv.bias is not None:
                shift = shift + scale * conv.bias
            weights = weights._replace(
                scale=scale.expand_as(weights.bias1),
                shift=shift.expand_as(weights.bias1))
            for name, value in zip(('gate_weight', 'gate_bias'), gate[:2]):
                self.register_buffer(name, value.clone())
            for name, value in weights._asdict().items():
                self.register_buffer(name, value.clone())

    def forward(self, x: Tensor) -> Tensor:
        out = gpu.by_kernels(self, x)
        if out is not None:
            return out
        dtype = torch.promote_types(x.dtype, torch.float32)
        gate = Gate(self.gate_weight.to(dtype), self.gate_bias.to(dtype),
                    *self.gate_options)
        weights = AffineCRU(*(getattr(self, n) for n in AffineCRU._fields))
        return affine_scconv(gate, weights, self.gwc_geometry, self.pool, x)
