"""What the convolutions of this package share."""
from collections.abc import Iterable

import torch
from torch import Tensor, nn

IntOrPair = int | tuple[int, int]


def check(ok: bool, name: str, value, allowed: str) -> None:
    """Check an option of a layer.

    Raises:
        ValueError: If ``ok`` is false; names the argument, the value and
            what is allowed.
    """
    if not ok:
        raise ValueError(f'{name}={value!r} is not valid: {allowed}')


def check_unused(why: str, **options: tuple) -> None:
    """Check that options without effect in a layer were not set.

    Args:
        why (str): Why they have no effect; part of the error.
        **options: Value and default of each.

    Raises:
        ValueError: For the first that is not at its default.
    """
    for name, (value, default) in options.items():
        check(value == default, name, value, why)


def is_int(value, minimum: int) -> bool:
    """Whether ``value`` is an int (not a bool) of at least ``minimum``."""
    return (isinstance(value, int) and not isinstance(value, bool)
            and value >= minimum)


def check_choice(name: str, value, choices: tuple[str, ...]) -> None:
    """
    Raises:
        ValueError: If ``value`` is none of ``choices``.
    """
    check(value in choices, name, value, f'one of {choices}')


def check_fraction(name: str, value: float) -> None:
    """
    Raises:
        ValueError: If ``value`` is not a number between 0 and 1.
    """
    check(
        isinstance(value, (int, float)) and 0 < value < 1, name, value,
        'a number between 0 and 1 (exclusive)')


def check_divisor(name: str, value: int, minimum: int = 1,
                  **widths: int) -> None:
    """Check that an int divides numbers of channels.

    Args:
        **widths: Each number of channels, by its name in the error.

    Raises:
        ValueError: If it is not an int of at least ``minimum``, or does not
            divide one of them.
    """
    channels = ' and the '.join(f'{width} {kind}'
                                for kind, width in widths.items())
    check(
        is_int(value, minimum)
        and not any(width % value for width in widths.values()), name, value,
        f'an int >= {minimum} that divides the {channels} channels')


def check_widths(in_channels: int, out_channels: int) -> None:
    """
    Raises:
        ValueError: For numbers of channels that no layer can have.
    """
    check(is_int(in_channels, 2), 'in_channels', in_channels, 'an int >= 2')
    check(
        is_int(out_channels, 1), 'out_channels', out_channels, 'an int >= 1')


def is_hooked(module: nn.Module) -> bool:
    """Whether a module has hooks (pruning, sharded parameters) or
    parametrizations, which must run at each call."""
    return bool(module._forward_hooks or module._forward_pre_hooks
                or module._backward_hooks or module._backward_pre_hooks
                or 'parametrizations' in module._modules)


def is_recorded(*tensors: Tensor | None) -> bool:
    """Whether autograd records a function of these tensors."""
    return torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in tensors)


@torch.compiler.assume_constant_result
def is_exporting() -> bool:
    """Whether torch.export runs.

    torch 2.11's compiler replaces ``torch.compiler.is_exporting()`` by True in
    every graph. This function is called while the graph is made, and its
    result is a constant there.
    """
    return torch.compiler.is_exporting()


# what make_fx and AOTAutograd trace with
TRACING = (torch._C._TorchDispatchModeKey.PROXY,
           torch._C._TorchDispatchModeKey.FUNCTIONAL,
           torch._C._TorchDispatchModeKey.FAKE)


def has_tracing_mode() -> bool:
    """Whether make_fx or AOTAutograd traces, not for a compiler's graph."""
    return any(map(torch._C._get_dispatch_mode, TRACING))


def is_traced() -> bool:
    """Whether a graph is made of what is computed, by any tool."""
    return (torch.compiler.is_compiling() or torch.jit.is_tracing()
            or is_exporting() or has_tracing_mode())


def are_float32(tensors: Iterable[Tensor]) -> bool:
    """Whether all tensors are float32, on the CPU."""
    return all(t.dtype == torch.float32 and t.device.type == 'cpu'
               for t in tensors)


def to_pair(value: IntOrPair, name: str, minimum: int = 1) -> tuple[int, int]:
    """An int or a pair of ints as a ``(height, width)`` pair.

    Raises:
        ValueError: If it is neither, or smaller than ``minimum``.
    """
    pair = (value, value) if isinstance(value, int) else value
    check(
        isinstance(pair, (tuple, list)) and len(pair) == 2
        and all(is_int(v, minimum) for v in pair), name, value,
        f'an int >= {minimum}, or a pair of them')
    return tuple(pair)


def check_conv_geometry(kernel_size: IntOrPair, stride: IntOrPair,
                        padding: str | IntOrPair, dilation: IntOrPair):
    """Normalise the geometry of a convolution whose branches must align.

    A pooled branch (``ceil(size / stride)``) and a convolved branch give the
    same output size only for odd kernels with "same" padding.

    Returns:
        tuple: ``kernel_size, stride, padding, dilation`` as pairs.

    Raises:
        ValueError: For an even kernel or any other padding.
    """
    kernel_size = to_pair(kernel_size, 'kernel_size')
    check(all(k % 2 for k in kernel_size), 'kernel_size', kernel_size,
          'only odd sizes, so that the branches align')
    stride = to_pair(stride, 'stride')
    dilation = to_pair(dilation, 'dilation')
    same = tuple(d * (k - 1) // 2 for k, d in zip(kernel_size, dilation))
    if padding == 'same':
        padding = same
    else:
        check(not isinstance(padding, str), 'padding', padding,
              "an int, a pair of ints or 'same'")
        given, padding = padding, to_pair(padding, 'padding', minimum=0)
        check(
            padding == same, 'padding', given,
            f'kernel_size={kernel_size} with dilation={dilation} needs '
            f'padding={same}, so that the pooled and the convolved branches '
            'align')
    return kernel_size, stride, padding, dilation


def stride_pool(stride: tuple[int, int]) -> nn.Module:
    """The pooling that gives point-wise parts the size of a strided "same"
    convolution; in ceil mode, so that odd sizes fit.

    Shape: (N, C, H, W) -> (N, C, ceil(H / stride), ceil(W / stride)).
    """
    if stride == (1, 1):
        return nn.Identity()
    return nn.AvgPool2d(stride, stride, ceil_mode=True)


class GlobalMean(nn.Module):
    """Global average pooling: (N, C, H, W) -> (N, C, 1, 1).

    Not ``nn.AdaptiveAvgPool2d``, which gives NaN with AMP and channels_last
    (pytorch #43992); a module, so that FLOP counters see it.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


class MeanFuse(nn.Module):
    """Sum of two branches, weighted channel by channel by a softmax over the
    pair of their global means.

    Source: SCConv, Section 3.2 ("fuse"), which took it from SPConv.

    Shape: twice (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self) -> None:
        super().__init__()
        self.mean = GlobalMean()

    def forward(self, y1: Tensor, y2: Tensor) -> Tensor:
        means = torch.stack([self.mean(y) for y in (y1, y2)])
        beta = torch.softmax(means, dim=0).to(y1.dtype)
        return beta[0] * y1 + beta[1] * y2


class DropInConv(nn.Module):
    """The arguments and attributes of ``nn.Conv2d``, checked.

    Subclasses end their ``forward`` with :meth:`add_bias`.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        kernel_size (int | tuple): Odd size.
        stride (int | tuple): Defaults to 1.
        padding (int | tuple | str): Must be the "same" padding,
            ``dilation * (kernel_size - 1) / 2``. Defaults to 0, as in
            ``nn.Conv2d``.
        dilation (int | tuple): Defaults to 1.
        groups (int): Must be 1: a dense convolution is replaced. Defaults
            to 1.
        bias (bool): Whether a learnable bias is added to the output, as
            ``nn.Conv2d`` does. It does not change which of the inner
            convolutions have one. Defaults to True.

    Raises:
        ValueError: For an option out of its range; names the argument, the
            value and what is allowed.
    """

    # what mmcv's ConvModule reads from a convolution
    transposed = False
    output_padding = (0, 0)
    # whether the output is normalised, so that no norm is needed after it
    ends_with_norm = False
    # whether it takes a norm_layer, for norms between its convolutions
    has_inner_norms = False

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 kernel_size: IntOrPair,
                 stride: IntOrPair = 1,
                 padding: str | IntOrPair = 0,
                 dilation: IntOrPair = 1,
                 groups: int = 1,
                 bias: bool = True) -> None:
        super().__init__()
        check_widths(in_channels, out_channels)
        check(
            groups == 1, 'groups', groups,
            f'{type(self).__name__} replaces a dense convolution, only 1 is '
            'possible')
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size, self.stride, self.padding, self.dilation = \
            check_conv_geometry(kernel_size, stride, padding, dilation)
        self.groups = groups
        self.register_parameter(
            'bias', nn.Parameter(torch.zeros(out_channels)) if bias else None)

    def inner_conv(self, in_channels: int, out_channels: int,
                   groups: int = 1) -> nn.Conv2d:
        """A convolution with this one's geometry, without bias."""
        return nn.Conv2d(
            in_channels,
            out_channels,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            groups=groups,
            bias=False)

    def set_out_channels(self, out_channels: int) -> None:
        """Set the output's width if it differs from the requested one."""
        self.out_channels = out_channels
        if self.bias is not None:
            self.bias = nn.Parameter(torch.zeros(out_channels))

    def add_bias(self, out: Tensor) -> Tensor:
        """The output, (N, out_channels, H, W), plus the bias if there is one.
        """
        if self.bias is not None:
            out = out + self.bias.to(out.dtype).view(1, -1, 1, 1)
        return out
