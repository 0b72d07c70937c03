"""Whether SCConv runs as Triton kernels for an input, and the call of them.

Here where its norms use running statistics, in gpu_batches.py where they use
those of the batch.

Triton comes with torch's CUDA builds. Nothing has to be compiled beforehand,
and everything works without it. ``MMDET_SCCONV_TRITON=0`` in the environment
turns the kernels off, ``implementation='torch'`` those of one layer.
"""
import importlib.util
import os
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..common import has_tracing_mode, is_exporting, is_recorded
from .compare import Subject, Use, compare, define_layer, small_layer
from .parameters import (
    compute_dtype,
    has_running_statistics,
    numbers_of,
    options_of,
    tensors_of,
)

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
HAS_TRITON = importlib.util.find_spec('triton') is not None
# Triton's interpreter runs the kernels on tensors of the CPU, for tests
INTERPRETED = HAS_TRITON and os.environ.get('TRITON_INTERPRET') == '1'
device_of = attrgetter('device')
LIMIT = 2**31  # of the elements of a map: the kernels count in int32
GRID_LIMIT = 2**16  # of CUDA: samples are a dimension of the grid


def may_run(conv: nn.Module, x: Tensor) -> bool:
    """Whether there can be kernels for an input of a layer."""
    return (HAS_TRITON and (x.is_cuda or INTERPRETED)
            and conv.implementation == 'fused')


def by_kernels(conv: nn.Module, x: Tensor) -> Tensor | None:
    """The output of an SCConv or a DeployedSCConv of x by the kernels; None
    where PyTorch's operators have to compute it.

    Args:
        x (Tensor): (N, C, H, W).
    """
    if not may_run(conv, x):
        return None
    if not (conv.deployed or has_running_statistics(conv)):
        return None
    call = Call.of(conv, x)
    return run(x, call) if can_run(x, call) and is_right(conv, x, call) \
        else None


class Call(NamedTuple):
    """What the kernels take of a layer, read once for each input."""

    form: tuple  # form_of the layer
    tensors: list[Tensor]
    dtype: torch.dtype  # of the output
    gradients: bool  # whether autograd records it

    @classmethod
    def of(cls, conv: nn.Module, x: Tensor) -> 'Call':
        tensors = tensors_of(conv)
        return cls(form_of(conv), tensors, compute_dtype(x),
                   not conv.deployed and is_recorded(x, *tensors))


def can_run(x: Tensor, call: Call) -> bool:
    """Whether the kernels know the kind of input and this form of layer."""
    _, in_channels, out_channels, up, low, _ = call.form
    return low <= 512 and can_fit(
        x, in_channels, max(in_channels, out_channels, up + low),
        call.tensors, call.dtype)


def can_fit(x: Tensor, channels: int, widest: int, tensors: Iterable[Tensor],
            dtype: torch.dtype) -> bool:
    """Whether the kernels know the kind of input.

    Args:
        x (Tensor): The input.
        channels (int): That the layer takes.
        widest (int): Channels of the widest map.
        tensors (Iterable): The layer's.
        dtype (torch.dtype): Of the output.
    """
    if torch.jit.is_tracing() or is_exporting():
        return False
    if not torch.compiler.is_compiling() and has_tracing_mode():
        return False
    if x.dim() != 4 or x.shape[1] != channels:
        return False  # the definition raises an error
    if not torch.compiler.is_compiling() and {
            *map(device_of, tensors)} != {x.device}:
        return False  # as well; a kernel would read memory that is not there
    n, _, height, width = x.shape
    return (0 < x.numel() and n * height * width * widest < LIMIT
            and n < GRID_LIMIT
            and channels <= 2048 and x.dtype in DTYPES and dtype in DTYPES)


def run(x: Tensor, call: Call) -> Tensor:
    """What :func:`can_run`, by the kernels."""
    from . import triton_scconv
    options, *_, deployed = call.form
    tensors = call.tensors
    if not all(map(Tensor.is_contiguous, tensors)):
        tensors = [t if is_dense(t) else t.contiguous() for t in tensors]
    if deployed:
        return triton_scconv.deployed_scconv(
            x, options, call.dtype, tensors[:-2], tensors[-2:])
    return triton_scconv.scconv(x, options, call.dtype, tensors,
                                call.gradients)


def is_right(conv: nn.Module, x: Tensor, call: Call) -> bool:
    """Whether the kernels may be used: not turned off, and right when they
    were compared, at the first such use of each form of layer."""
    if torch.compiler.is_compiling():
        return is_right_in_general(
            x.device, x.dtype, call.dtype,
            torch.is_grad_enabled() and not conv.deployed)
    return compared(call.form, use_of(x, call.gradients),
                    lambda: Subject(conv, run_layer, define_layer))


def use_of(x: Tensor, gradients: bool) -> Use:
    """What the kernels are to be used for now."""
    return Use(
        x.device, x.dtype, compute_dtype(x),
        not x.is_contiguous() or x.is_contiguous(
            memory_format=torch.channels_last), gradients)


def run_layer(conv: nn.Module, x: Tensor) -> Tensor:
    """:func:`run` of a layer whose kernels are compared."""
    return run(x, Call.of(conv, x))


def is_turned_on() -> bool:
    """Whether the environment does not turn the kernels off."""
    return os.environ.get('MMDET_SCCONV_TRITON') != '0'


def compared(form: tuple, use: Use,
             make_subject: Callable[[], Subject]) -> bool:
    """The result of :func:`compare`, from before if there was one.

    Args:
        form (tuple): A name, the channels of the input, then all else that
            compiled kernels depend on.
        use (Use): See there.
        make_subject (Callable): Called where nothing was compared.
    """
    right = COMPARED.get((form, use))
    if right is None and not use.gradients:
        right = COMPARED.get((form, use._replace(gradients=True)))
    if right is not None:
        return right
    if use.device.type == 'cuda' and torch.cuda.is_current_stream_capturing():
        return False  # nothing can be compared in a CUDA graph
    right = COMPARED[form, use] = is_turned_on() and compare(
        make_subject(), form[1], use)
    return right


# forms of layers and their uses that were compared; whether they were right
COMPARED: dict[tuple[tuple, Use], bool] = {}


def form_of(conv: nn.Module) -> tuple:
    """Options; widths of input, output and both squeezed maps; whether it is
    deployed. Made once, and anew where a number of the options was changed."""
    numbers = () if conv.deployed else numbers_of(conv)
    made_of, form = conv.__dict__.get('_triton_form', (None, None))
    if made_of != numbers:
        if conv.deployed:
            widths = (conv.gate_weight, conv.bias1, conv.squeeze_up_bias,
                      conv.squeeze_low_bias)
            form = (conv.triton_options, *map(len, widths), True)
        else:
            cru = conv.cru
            form = (options_of(conv), conv.in_channels, conv.out_channels,
                    cru.squeeze_up.out_channels, cru.squeeze_low.out_channels,
                    False)
        conv._triton_form = numbers, form
    return form


@torch.compiler.assume_constant_result
def is_right_in_general(device: torch.device, dtype: torch.dtype,
                        compute_dtype: torch.dtype, gradients: bool) -> bool:
    """:func:`is_right` of a small layer, for compilers."""
    layer = small_layer()
    return compared(form_of(layer),
                    Use(device, dtype, compute_dtype, True, gradients),
                    lambda: Subject(layer, run_layer, define_layer))


def is_dense(parameter: Tensor) -> bool:
    """Whether the kernels can read it: contiguous, or in channels_last."""
    return parameter.is_contiguous() or (
        parameter.dim() == 4
        and parameter.is_contiguous(memory_format=torch.channels_last))
