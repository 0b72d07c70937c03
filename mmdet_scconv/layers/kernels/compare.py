"""Kernels beside the definition, on the device where they are to run."""
import copy
import math
import warnings
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

Function = Callable[[nn.Module, Tensor], Tensor]
TOLERANCE = {torch.float32: 1e-2, torch.float16: 2e-2, torch.bfloat16: 1e-1}


class Use(NamedTuple):
    """What the compiled kernels depend on beside the layer."""

    device: torch.device
    dtype: torch.dtype  # of the input
    compute_dtype: torch.dtype  # of the output
    channels_last: bool
    gradients: bool  # whether the backward pass runs, too


@cache
@torch.inference_mode(False)  # it is kept, for trainings as well
def small_layer() -> nn.Module:
    from ..scconv import SCConv
    return SCConv(32, 32, 3, stride=2, padding=1, gn_groups=4,
                  bias=False).eval()


class Subject(NamedTuple):
    """What is compared."""

    layer: nn.Module  # an SCConv, a deployed one, or a part of an SCConv
    kernels: Function  # its output of an input (N, C, H, W)
    definition: Function  # the same, without kernels


def compare(subject: Subject, channels: int, use: Use) -> bool:
    """Whether the kernels give what the definition gives; warns if not.

    Args:
        subject (Subject): See there.
        channels (int): Of its input.
        use (Use): For what the kernels are to be used. No others are
            compiled, as that takes seconds for each.
    """
    try:
        worst = largest_difference(subject, channels, use)
    except Exception as error:  # noqa: BLE001 (any of a compiler's)
        reason = f'they failed ({type(error).__name__}: {error})'
    else:
        if worst <= TOLERANCE[use.compute_dtype]:
            return True
        reason = f'they differ from the definition by {worst:.1e}'
    warnings.warn(
        f'SCConv: the Triton kernels are not used on {use.device} with '
        f"{use.compute_dtype}: {reason}. PyTorch's operators do the same, "
        'more slowly.', stacklevel=2)
    return False


def largest_difference(subject: Subject, channels: int, use: Use) -> float:
    """The largest relative difference of the output and of each gradient to
    those of the definition in float64, with random weights.

    Args: See :func:`compare`.
    """
    layer = copy_of(subject.layer).cpu().requires_grad_(use.gradients)
    with torch.random.fork_rng(devices=[]), torch.autocast(
            use.device.type, enabled=False), \
            torch.autograd.graph.saved_tensors_hooks(keep, keep):
        torch.default_generator.manual_seed(0)  # not those of GPUs
        randomise(layer)
        # an odd height, and a number of pixels that Triton knows to be a
        # multiple of 16, as those of most images
        x = torch.randn(2, channels, 7, 16).to(use.dtype).to(
            memory_format=torch.channels_last if use.channels_last
            else torch.contiguous_format)
        expected = results(copy.deepcopy(layer).double(), x.double(),
                           subject.definition, use.gradients)
        actual = results(layer.to(use.device), x.to(use.device),
                         in_dtype(subject.kernels, use), use.gradients)
    differences = [
        ((a - e).norm() / e.norm().clamp(min=1e-3)).item()
        for e, a in zip(expected, actual)
    ]
    return max(d if math.isfinite(d) else math.inf for d in differences)


def keep(saved: Tensor) -> Tensor:
    """In place of hooks that are on: of checkpointing, which counts."""
    return saved


def copy_of(layer: nn.Module) -> nn.Module:
    """Also of one whose parameters are outputs of something."""
    return copy.deepcopy(layer, {
        id(tensor): nn.Parameter(tensor.detach().clone())
        for tensor in layer.parameters()})


def randomise(layer: nn.Module) -> None:
    """Random weights, for a layer that has been trained or folded."""
    for module in layer.modules():
        if hasattr(module, 'reset_parameters'):
            module.reset_parameters()
    if not [*layer.parameters()]:  # a deployed one
        for buffer in layer.buffers():
            buffer.normal_(std=buffer[0].numel()**-0.5)


def define_layer(layer: nn.Module, x: Tensor) -> Tensor:
    """An SCConv or a deployed one without kernels."""
    if layer.deployed:
        layer.implementation = 'torch'
        return layer(x)
    return layer.cru(layer.sru(x))


def in_dtype(kernels: Function, use: Use) -> Function:
    """The kernels where autocast makes the compute dtype of the input's."""
    if use.dtype == use.compute_dtype:
        return kernels
    return torch.autocast(use.device.type, use.compute_dtype)(kernels)


def results(layer: nn.Module, x: Tensor, function: Function,
            gradients: bool) -> list[Tensor]:
    """Output, gradients of a random sum of it, and running statistics:
    float64, on the CPU."""
    with torch.enable_grad() if gradients else torch.no_grad():
        x.requires_grad_(gradients)
        out = function(layer, x)
        found = [out]
        if gradients:
            generator = torch.Generator().manual_seed(1)
            weights = torch.randn(out.shape, generator=generator).to(
                out.device, out.dtype, memory_format=torch.channels_last
                if out.is_contiguous(memory_format=torch.channels_last)
                else torch.contiguous_format)
            inputs = [x, *(parameter for name, parameter
                           in layer.named_parameters() if name != 'bias')]
            found += torch.autograd.grad((out * weights).sum(), inputs)
    found += filter(Tensor.is_floating_point, layer.buffers())
    return [t.detach().double().cpu() for t in found]
