"""Compiled kernels; everything works without them.

- cpu.cpp, compiled and loaded by cpu.py: the SRU's gate, on the CPU. The gate
  itself asks whether it fits its input (:func:`cpu.fits`).
- triton_scconv/: a whole SCConv with running statistics, on a GPU. gpu.py
  tells whether it fits an input and calls it; compare.py compares it with the
  definition before its first use. :func:`choose` returns it.
"""
from collections.abc import Callable

from torch import Tensor, nn

from . import gpu


def choose(layer: nn.Module,
           x: Tensor) -> Callable[[nn.Module, Tensor], Tensor] | None:
    """What computes a layer of x by kernels.

    Args:
        layer (nn.Module): An SCConv with units 'S+C', or a DeployedSCConv.
        x (Tensor): (N, C, H, W).

    Returns:
        Callable | None: Takes both, returns the output; None where PyTorch's
        operators have to do it.
    """
    if layer.implementation != 'fused':
        return None
    if layer.deployed:
        return gpu.deployed_scconv if gpu.fits_deployed(layer, x) else None
    return gpu.scconv if gpu.fits(layer, x) else None
