"""Whether SCConv runs as Triton kernels for an input, and the call of them.

Triton comes with torch's CUDA builds. Nothing has to be compiled beforehand,
and everything works without it. ``MMDET_SCCONV_TRITON=0`` in the environment
turns the kernels off, ``implementation='torch'`` those of one layer.
"""
import importlib.util
import os

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..common import is_recorded
from .compare import Use, compare, small_layer
from .parameters import Options, Parameters

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
HAS_TRITON = importlib.util.find_spec('triton') is not None
# Triton's interpreter runs the kernels on tensors of the CPU, for tests
INTERPRETED = HAS_TRITON and os.environ.get('TRITON_INTERPRET') == '1'
LIMIT = 2**31  # of the elements of a map: the kernels count in int32


def compute_dtype(x: Tensor) -> torch.dtype:
    """What a convolution of x gives: autocast's dtype where it is on."""
    device = x.device.type
    return (torch.get_autocast_dtype(device)
            if torch.is_autocast_enabled(device) else x.dtype)


def fits(conv: nn.Module, x: Tensor) -> bool:
    """Whether the kernels can and should compute an SCConv of x."""
    if not (HAS_TRITON and (x.is_cuda or INTERPRETED)):
        return False
    cru = conv._modules['cru']._modules  # as in tensors_of
    for name in ('squeeze_up_bn', 'squeeze_low_bn', 'bn1', 'bn2'):
        norm = cru[name]
        if not (isinstance(norm, _BatchNorm) and not norm.training
                and norm._buffers['running_mean'] is not None
                and norm._parameters['weight'] is not None):
            return False
    return can_run(x, form_of(conv)) and is_right(conv, x)


def can_run(x: Tensor, form: tuple) -> bool:
    """Whether the kernels know the kind of input and this form of layer."""
    if torch.jit.is_tracing() or torch.compiler.is_exporting():
        return False
    _, in_channels, out_channels, up, low, _ = form
    if x.dim() != 4 or x.shape[1] != in_channels:
        return False  # the definition raises an error
    n, channels, height, width = x.shape
    widest = max(channels, out_channels, up + low)
    return (0 < x.numel() and n * height * width * widest < LIMIT
            and channels <= 2048 and low <= 512 and x.dtype in DTYPES
            and compute_dtype(x) in DTYPES)


def fits_deployed(conv: nn.Module, x: Tensor) -> bool:
    """:func:`fits` of a DeployedSCConv."""
    return (HAS_TRITON and (x.is_cuda or INTERPRETED)
            and can_run(x, form_of(conv)) and is_right(conv, x))


def deployed_scconv(conv: nn.Module, x: Tensor) -> Tensor:
    """A DeployedSCConv of x by the kernels. Shape: as SCConv's."""
    from . import triton_scconv
    unread = conv.bias1
    parameters = Parameters(
        conv.gate_weight, conv.gate_bias,
        conv.squeeze_up_weight, unread, unread, conv.squeeze_up_bias, unread,
        unread, conv.squeeze_low_weight, unread, unread,
        conv.squeeze_low_bias, unread, unread,
        conv.gwc, conv.pwc1, unread, conv.bias1, unread, unread,
        conv.pwc2, unread, unread, conv.bias2, unread, unread)
    return triton_scconv.deployed_scconv(
        x, conv.triton_options, compute_dtype(x), list(parameters),
        [conv.scale, conv.shift])


def is_right(conv: nn.Module, x: Tensor) -> bool:
    """Whether the kernels may be used: not turned off, and right when they
    were compared, at the first such use of each form of layer."""
    gradients = torch.is_grad_enabled() and not conv.deployed
    if torch.compiler.is_compiling():
        return is_right_in_general(x.device, x.dtype, compute_dtype(x),
                                   gradients)
    use = Use(x.device, x.dtype, compute_dtype(x),
              not x.is_contiguous() or x.is_contiguous(
                  memory_format=torch.channels_last),
              gradients and (x.requires_grad
                             or is_recorded(*tensors_of(conv))))
    return compared(conv, use)


def is_turned_on() -> bool:
    """Whether the environment does not turn the kernels off."""
    return os.environ.get('MMDET_SCCONV_TRITON') != '0'


def compared(conv: nn.Module, use: Use) -> bool:
    """The result of :func:`compare`, from before if there was one."""
    form = form_of(conv)
    right = COMPARED.get((form, use))
    if right is None and not use.gradients:
        right = COMPARED.get((form, use._replace(gradients=True)))
    if right is not None:
        return right
    if use.device.type == 'cuda' and torch.cuda.is_current_stream_capturing():
        return False  # nothing can be compared in a CUDA graph
    right = COMPARED[form, use] = is_turned_on() and compare(
        conv, form[1], deployed_scconv if conv.deployed else scconv, use)
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
    return compared(small_layer(),
                    Use(device, dtype, compute_dtype, True, gradients))


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


def numbers_of(conv: nn.Module) -> tuple[float, ...]:
    """Those of an SCConv's options that may be set later: each eps and the
    threshold. Past ``nn.Module.__getattr__``, as :func:`tensors_of`."""
    sru, cru = conv._modules['sru'], conv._modules['cru']._modules
    norms = (sru._modules['gn'], cru['squeeze_up_bn'], cru['squeeze_low_bn'],
             cru['bn1'], cru['bn2'])
    # an identity, where a norm was folded before, has none
    return (*[getattr(norm, 'eps', 0.) for norm in norms],
            sru.gate_logit_threshold)


def options_of(conv: nn.Module) -> Options:
    """Of an SCConv."""
    sru, cru = conv.sru, conv.cru
    return Options(
        conv.kernel_size, conv.stride, conv.padding, conv.dilation,
        cru.gwc.groups, sru.gn.num_groups, cru.up_channels,
        *numbers_of(conv))


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
        x, form_of(conv)[0], compute_dtype(x), parameters)
