"""Forward and backward pass as operators, with a gradient."""
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..parameters import TRAINED, Options, Parameters
from .backward import run_backward
from .forward import kept_sizes, run_forward
from .launch import dense, layout_of

# As torch.library.custom_op does, without its check that no output shares the
# memory of an input, which takes 20 us in each call. None does.
torch.library.define(
    'mmdet_scconv::scconv',
    '(Tensor x, Tensor[] parameters, int[] ints, float[] floats, '
    'ScalarType dtype, Tensor[] post) -> Tensor[]',
    tags=torch.Tag.pt2_compliant_tag)
torch.library.define(
    'mmdet_scconv::scconv_backward',
    '(Tensor dy, Tensor x, Tensor[] kept, Tensor[] parameters, int[] ints, '
    'float[] floats) -> Tensor[]',
    tags=torch.Tag.pt2_compliant_tag)
forward_operator = torch.ops.mmdet_scconv.scconv.default
backward_operator = torch.ops.mmdet_scconv.scconv_backward.default


@torch.library.impl('mmdet_scconv::scconv', ('cpu', 'cuda'))
def _(x, parameters, ints, floats, dtype, post):
    """:func:`run_forward` as one node of a compiler's graph."""
    return list(run_forward(x, Parameters(*parameters),
                            Options.of(ints, floats), dtype, tuple(post)))


@torch.library.register_fake('mmdet_scconv::scconv')
def _(x, parameters, ints, floats, dtype, post):
    p, options = Parameters(*parameters), Options.of(ints, floats)
    n, channels, height, width = x.shape
    out, up, low = p.gwc.shape[0], p.up_weight.shape[0], p.low_weight.shape[0]
    sh, sw = options.stride
    y = torch.empty(
        (n, out, (height + sh - 1) // sh, (width + sw - 1) // sw),
        dtype=dtype, device=x.device, memory_format=layout_of(x))
    *sizes, packed = kept_sizes(n, channels, (out, up, low), options)
    return [y, *(x.new_empty(size, dtype=torch.float32) for size in sizes),
            x.new_empty(packed, dtype=dtype)]


@torch.library.impl('mmdet_scconv::scconv_backward', ('cpu', 'cuda'))
def _(dy, x, kept, parameters, ints, floats):
    """:func:`run_backward` as one node: x's gradient, then ``TRAINED``."""
    grads = run_backward(dy, x, kept, Parameters(*parameters),
                         Options.of(ints, floats))
    return [grads['x'], *(grads[name] for name in TRAINED)]


@torch.library.register_fake('mmdet_scconv::scconv_backward')
def _(dy, x, kept, parameters, ints, floats):
    named = Parameters(*parameters)._asdict()
    return [torch.empty_like(x),
            *(torch.empty_like(named[name]) for name in TRAINED)]


class TritonSCConv(torch.autograd.Function):
    """SCConv from its parameters. Shape: as SCConv's."""

    @staticmethod
    def forward(ctx, x: Tensor, options: Options, dtype: torch.dtype,
                *parameters: Tensor) -> Tensor:
        x = dense(x)
        if torch.compiler.is_compiling():
            y, *kept = forward_operator(x, list(parameters), *options.flat(),
                                        dtype, [])
        else:
            y, *kept = run_forward(x, Parameters(*parameters), options, dtype)
        ctx.save_for_backward(x, *kept, *parameters)
        ctx.options = options
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        saved = ctx.saved_tensors
        count = len(Parameters._fields)
        x, kept, parameters = saved[0], saved[1:-count], saved[-count:]
        if torch.compiler.is_compiling():
            dx, *grads = backward_operator(dy, x, list(kept), list(parameters),
                                           *ctx.options.flat())
            grads = dict(zip(TRAINED, grads), x=dx)
        else:
            grads = run_backward(dy, x, kept, Parameters(*parameters),
                                 ctx.options)
        return (grads['x'], None, None,
                *(grads.get(name) for name in Parameters._fields))


def scconv(x: Tensor, options: Options, dtype: torch.dtype,
           parameters: list[Tensor], gradients: bool) -> Tensor:
    """SCConv with running statistics.

    Args:
        x (Tensor): (N, C, H, W).
        options (Options): Of the layer.
        dtype (torch.dtype): Of the output.
        parameters (list): In the order of :class:`Parameters`.
        gradients (bool): Whether autograd has to record it.
    """
    if gradients:
        return TritonSCConv.apply(x, options, dtype, *parameters)
    return without_gradient(x, options, dtype, parameters, [])


def without_gradient(x: Tensor, options: Options, dtype: torch.dtype,
                     parameters: list[Tensor], post: list[Tensor]) -> Tensor:
    """The output alone; see :func:`scconv`, and ``post`` of
    :func:`run_forward`."""
    x = dense(x)
    if torch.compiler.is_compiling():
        return forward_operator(x, parameters, *options.flat(), dtype,
                                post)[0]
    return run_forward(x, Parameters(*parameters), options, dtype,
                       tuple(post), keep=False)[0]


deployed_scconv = torch.no_grad()(without_gradient)
