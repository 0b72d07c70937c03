"""Kernels beside the definition, on the device where they are to run."""
import math
import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

TOLERANCE = {torch.float32: 1e-2, torch.float16: 2e-2, torch.bfloat16: 1e-1}


@cache
def small_layer() -> nn.Module:
    from ..scconv import SCConv
    return SCConv(32, 32, 3, stride=2, padding=1, gn_groups=4,
                  bias=False).eval()


def compare(layer: nn.Module, kernels: Callable[[nn.Module, Tensor], Tensor],
            device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernels give what the definition gives; warns if not.

    Args:
        layer (nn.Module): An SCConv in eval mode; its weights are changed.
        kernels (Callable): Computes the layer of an input.
        device (torch.device): Where the kernels are to run.
        dtype (torch.dtype): What they are to compute in.
    """
    try:
        worst = largest_difference(layer, kernels, device, dtype)
    except Exception as error:  # noqa: BLE001 (any of a compiler's)
        reason = f'they failed ({type(error).__name__}: {error})'
    else:
        if worst <= TOLERANCE[dtype]:
            return True
        reason = f'they differ from the definition by {worst:.1e}'
    warnings.warn(
        f'SCConv: the Triton kernels are not used on {device} with {dtype}: '
        f"{reason}. PyTorch's operators do the same, more slowly.",
        stacklevel=2)
    return False


def largest_difference(layer: nn.Module, kernels: Callable,
                       device: torch.device, dtype: torch.dtype) -> float:
    """The largest relative difference of the output and of each gradient to
    those of the definition in float64, with random weights.

    Args: See :func:`compare`.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), \
            torch.autocast(device.type, enabled=False):
        torch.manual_seed(0)
        layer.float().cpu().requires_grad_()
        for module in layer.modules():
            if hasattr(module, 'reset_parameters'):
                module.reset_parameters()
        x = torch.randn(2, layer.in_channels, 7, 5).to(dtype)
        results = []
        for form in ('definition', 'kernels'):
            if form == 'definition':
                layer.double()
                given = x.double().requires_grad_()
                out = layer.cru(layer.sru(given))
                weights = torch.randn_like(out)
            else:
                layer.float().to(device)
                given = x.to(device).requires_grad_()
                out = kernels(layer, given)
            inputs = [given, *layer.sru.parameters(), *layer.cru.parameters()]
            grads = torch.autograd.grad(
                (out * weights.to(out)).sum(), inputs)
            results.append([t.double().cpu() for t in (out, *grads)])
    differences = [
        ((actual - expected).norm() / expected.norm().clamp(min=1e-3)).item()
        for expected, actual in zip(*results)
    ]
    return max(d if math.isfinite(d) else math.inf for d in differences)
