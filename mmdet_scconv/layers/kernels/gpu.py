"""Whether SCConv runs as Triton kernels on this device; and that it may.

Triton comes with torch's CUDA builds. Nothing here has to be built, and
without it everything works. ``MMDET_SCCONV_TRITON=0`` in the environment turns
the kernels off, ``implementation='torch'`` those of one layer.
"""
import copy
import importlib.util
import math
import os
import warnings
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
HAS_TRITON = importlib.util.find_spec('triton') is not None
# Triton's interpreter runs the kernels on tensors of the CPU, for tests
INTERPRETED = HAS_TRITON and os.environ.get('TRITON_INTERPRET') == '1'
LIMIT = 2**31  # of the elements of a map: the kernels count in int32
TOLERANCE = {torch.float32: 1e-2, torch.float16: 2e-2, torch.bfloat16: 1e-1}


def compute_dtype(x: Tensor) -> torch.dtype:
    """What a convolution of x gives: autocast's dtype where it is on."""
    device = x.device.type
    return (torch.get_autocast_dtype(device)
            if torch.is_autocast_enabled(device) else x.dtype)


def fits(conv: nn.Module, x: Tensor) -> bool:
    """Whether the kernels can and should compute an SCConv of x."""
    if not (x.is_cuda or INTERPRETED):
        return False
    cru = conv.cru
    for norm in (cru.squeeze_up_bn, cru.squeeze_low_bn, cru.bn1, cru.bn2):
        if not (isinstance(norm, _BatchNorm) and not norm.training
                and norm.running_mean is not None
                and norm.weight is not None):
            return False
    return can_run(x, conv.out_channels, cru.squeeze_up.out_channels,
                   cru.squeeze_low.out_channels) and is_right(
                       conv, x.device, compute_dtype(x))


def can_run(x: Tensor, out_channels: int, up: int, low: int) -> bool:
    """Whether the kernels know the kind of input and these widths."""
    if not HAS_TRITON or torch.jit.is_tracing() or \
            torch.compiler.is_exporting():
        return False
    n, channels, height, width = x.shape
    widest = max(channels, out_channels, up + low)
    return (0 < x.numel() and n * height * width * widest < LIMIT
            and channels <= 2048 and low <= 512 and x.dtype in DTYPES
            and compute_dtype(x) in DTYPES)


def fits_deployed(conv: nn.Module, x: Tensor) -> bool:
    """:func:`fits` of a DeployedSCConv: where those of a small layer were
    right."""
    return ((x.is_cuda or INTERPRETED)
            and can_run(x, conv.out_channels, len(conv.squeeze_up_bias),
                        len(conv.squeeze_low_bias))
            and is_right_in_general(x.device, compute_dtype(x)))


def deployed_scconv(conv: nn.Module, x: Tensor) -> Tensor:
    """A DeployedSCConv of x by the kernels. Shape: as SCConv's."""
    from . import triton_scconv
    unread = conv.bias1
    parameters = triton_scconv.Parameters(
        conv.gate_weight, conv.gate_bias,
        conv.squeeze_up_weight, unread, unread, conv.squeeze_up_bias, unread,
        unread, conv.squeeze_low_weight, unread, unread,
        conv.squeeze_low_bias, unread, unread,
        conv.gwc, conv.pwc1, unread, conv.bias1, unread, unread,
        conv.pwc2, unread, unread, conv.bias2, unread, unread)
    return triton_scconv.deployed_scconv(
        x, conv.triton_options, compute_dtype(x), list(parameters),
        [conv.scale, conv.shift])


def is_right(conv: nn.Module, device: torch.device,
             dtype: torch.dtype) -> bool:
    """Whether the kernels may be used: not turned off, and right when they
    were compared, on this device at the first use of each form of layer."""
    if torch.compiler.is_compiling():
        return is_right_in_general(device, dtype)
    return compared(conv, device, dtype)


def compared(conv: nn.Module, device: torch.device,
             dtype: torch.dtype) -> bool:
    """The result of :func:`compare`, from before if there was one."""
    key = (options_of(conv), conv.in_channels, conv.out_channels,
           conv.cru.squeeze_up.out_channels,
           conv.cru.squeeze_low.out_channels, device, dtype)
    if key not in COMPARED:
        if device.type == 'cuda' and torch.cuda.is_current_stream_capturing():
            return False  # nothing can be compared in a CUDA graph
        COMPARED[key] = compare(copy.deepcopy(conv), device, dtype)
    return COMPARED[key]


# forms of layers that were compared, and whether they were right
COMPARED: dict[tuple, bool] = {}


@torch.compiler.assume_constant_result
def is_right_in_general(device: torch.device, dtype: torch.dtype) -> bool:
    """:func:`is_right` of a small layer, for compilers and deployed layers."""
    return compared(small_layer(), device, dtype)


@cache
def small_layer() -> nn.Module:
    from ..scconv import SCConv
    return SCConv(32, 32, 3, stride=2, padding=1, gn_groups=4,
                  bias=False).eval()


def compare(layer: nn.Module, device: torch.device,
            dtype: torch.dtype) -> bool:
    """Whether the kernels give what the definition gives; warns if not.

    Args:
        layer (nn.Module): An SCConv in eval mode, is changed.
        device (torch.device): Where the kernels are to run.
        dtype (torch.dtype): What they are to compute in.
    """
    if os.environ.get('MMDET_SCCONV_TRITON') == '0':
        return False
    try:
        worst = largest_difference(layer, device, dtype)
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


def largest_difference(layer: nn.Module, device: torch.device,
                       dtype: torch.dtype) -> float:
    """Relative, of an output and each gradient, to the definition's in
    float64; with random weights."""
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
                out = scconv(layer, given)
            inputs = [given, *layer.sru.parameters(), *layer.cru.parameters()]
            grads = torch.autograd.grad(
                (out * weights.to(out)).sum(), inputs)
            results.append([t.double().cpu() for t in (out, *grads)])
    differences = [
        ((actual - expected).norm() / expected.norm().clamp(min=1e-3)).item()
        for expected, actual in zip(*results)
    ]
    return max(d if math.isfinite(d) else math.inf for d in differences)


def tensors_of(conv: nn.Module) -> list[Tensor]:
    """All tensors of an SCConv in the order of ``Parameters``.

    Past ``nn.Module.__getattr__``, which takes longer for all of them than
    the convolution on a GPU.
    """
    cru = conv.cru._modules
    found = []
    for module in (conv.sru._modules['gn'], cru['squeeze_up'],
                   cru['squeeze_up_bn'], cru['squeeze_low'],
                   cru['squeeze_low_bn'], cru['gwc'], cru['pwc1'],
                   cru['bn1'], cru['pwc2'], cru['bn2']):
        parameters, buffers = module._parameters, module._buffers
        found.append(parameters['weight'])
        if parameters['bias'] is not None:
            found.append(parameters['bias'])
        if buffers:
            found += (buffers['running_mean'], buffers['running_var'])
    return found


def options_of(conv: nn.Module):
    """Of an SCConv; made once, as nothing of it changes."""
    options = conv.__dict__.get('_triton_options')
    if options is None:
        from .triton_scconv import Options
        sru, cru = conv.sru, conv.cru
        options = conv._triton_options = Options(
            conv.kernel_size, conv.stride, conv.padding, conv.dilation,
            cru.gwc.groups, sru.gn.num_groups, cru.up_channels, sru.gn.eps,
            cru.squeeze_up_bn.eps, cru.squeeze_low_bn.eps, cru.bn1.eps,
            cru.bn2.eps, sru.gate_logit_threshold)
    return options


def is_dense(parameter: Tensor) -> bool:
    """Whether the kernels can read it: contiguous, or in channels_last."""
    return parameter.is_contiguous() or (
        parameter.dim() == 4
        and parameter.is_contiguous(memory_format=torch.channels_last))


def scconv(conv: nn.Module, x: Tensor) -> Tensor:
    """SCConv of x by the kernels, where :func:`fits`. Shape: as SCConv's."""
    from . import triton_scconv
    parameters = [p if is_dense(p) else p.contiguous()
                  for p in tensors_of(conv)]
    return triton_scconv.scconv(
        x, options_of(conv), compute_dtype(x), parameters)
