"""Argument checks that every convolution of this package shares."""
IntOrPair = int | tuple[int, int]


def check(ok: bool, name: str, value, allowed: str) -> None:
    """Raise the one form of error that the layers use for a bad option.

    Raises:
        ValueError: If ``ok`` is false; names the argument, the value and
            what is allowed.
    """
    if not ok:
        raise ValueError(f'{name}={value!r} is not valid: {allowed}')


def is_int(value, minimum: int) -> bool:
    """Whether ``value`` is an int (not a bool) of at least ``minimum``."""
    return (isinstance(value, int) and not isinstance(value, bool)
            and value >= minimum)


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
