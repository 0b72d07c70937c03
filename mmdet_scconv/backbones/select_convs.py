"""Which convolutions of a module are replaced, and why others are not."""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase

from mmcv.cnn.bricks.wrappers import Conv2d
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.dense_heads.base_mask_head import BaseMaskHead
from torch import nn

from ..layers.common import DropInConv, check, is_hooked, is_int

# mmcv's is nn.Conv2d, but for empty inputs in old versions of torch
DENSE_TYPES = (nn.Conv2d, Conv2d)


@dataclass(frozen=True)
class FoundConv:
    """A convolution of a module, and its place.

    It has several ``names`` if several modules share it.
    """

    names: tuple[str, ...]
    conv: nn.Module
    parent: nn.Module

    @property
    def name(self) -> str:
        return self.names[0]

    def __str__(self) -> str:
        conv = self.conv
        size = 'x'.join(map(str, conv.kernel_size))
        return f'{size} {conv.in_channels}->{conv.out_channels}'


def is_convolution(module: nn.Module) -> bool:
    """Whether a module is a convolution of any class. Convolutions inside it
    (the offsets of a deformable one, the parts of an SCConv) are not replaced.
    """
    weight = module._parameters.get('weight')
    return isinstance(module, (DropInConv, nn.Conv2d)) or (
        weight is not None and weight.dim() == 4)


def looks_like_predictor(found: FoundConv) -> bool:
    """Whether a convolution of a head predicts scores or boxes: it has a bias,
    and neither norm nor activation of a ConvModule."""
    conv, parent = found.conv, found.parent
    if conv.bias is None or conv is getattr(parent, 'conv', None):
        return False
    # layers before the predictors that are no ConvModules either
    inside = (found.name == 'rpn_conv' or isinstance(parent, nn.Sequential))
    return not inside or conv.in_channels != conv.out_channels


def find_convs(module: nn.Module) -> list[FoundConv]:
    """All convolutions of a module, in their order, each once."""
    found = {}

    def walk(parent: nn.Module, prefix: str) -> None:
        for name, child in parent._modules.items():
            if child is None:
                continue
            path = f'{prefix}{name}'
            if is_convolution(child):
                names = found.get(child, FoundConv((), child, parent)).names
                found[child] = FoundConv((*names, path), child, parent)
            else:
                walk(child, f'{path}.')

    walk(module, '')
    return list(found.values())


def as_tuple(value) -> tuple | None:
    """One value or several as a tuple; None, which means any, stays None."""
    if value is None:
        return None
    return tuple(value) if isinstance(value, (tuple, list)) else (value, )


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern fits a name: it is the name, the name of a module
    around it ('stage4' for all in ``stage4``), or has wildcards ('*.conv2').
    """
    return fnmatchcase(name, pattern) or fnmatchcase(name, f'{pattern}.*')


@dataclass(frozen=True)
class Select:
    """Rules for the convolutions to replace. All must hold.

    Args:
        kernel_size (int | Sequence[int], optional): Sizes that height and
            width of the kernel may have. None: any. Defaults to 3.
        stride (int | Sequence[int], optional): Likewise. The default, 1, is
            what the measurements of docs/any_network.md favour: between two
            stages nothing leads around a convolution with a stride, as it
            does in a ResNet's block, so all goes through SCConv's squeeze.
        groups (int | Sequence[int], optional): Likewise. The default, 1, is
            a dense convolution.
        min_channels (int): Fewest channels of input and output; leaves out the
            first convolution, whose input has 3. Defaults to 16.
        max_channels (int, optional): Most channels. Defaults to None.
        include (str | Sequence[str], optional): Names of parts, with
            wildcards: 'stage4' for all in it, '*.conv2' for all names with
                this end. None: all parts. Defaults to None.
        exclude (str | Sequence[str]): Names that are not replaced, in the same
            form. Defaults to none.

    Raises:
        ValueError: For a value of the wrong type; names the option.
    """

    kernel_size: int | Sequence[int] | None = 3
    stride: int | Sequence[int] | None = 1
    groups: int | Sequence[int] | None = 1
    min_channels: int = 16
    max_channels: int | None = None
    include: str | Sequence[str] | None = None
    exclude: str | Sequence[str] = ()

    @classmethod
    def of(cls, options: dict | None) -> 'Select':
        """Read the rules from a config's dict.

        Raises:
            ValueError: Also for an option that does not exist.
        """
        options = dict(options or {})
        known = [field.name for field in fields(cls)]
        for name, value in options.items():
            if name not in known:
                raise ValueError(
                    f'select: {name}={value!r} is not an option; options are '
                    f'{", ".join(known)}')
        return cls(**options)

    def __post_init__(self) -> None:
        for name in ('kernel_size', 'stride', 'groups'):
            values = as_tuple(getattr(self, name))
            check(
                values is None or all(is_int(v, 1) for v in values), name,
                getattr(self, name), 'an int >= 1, several, or None for any')
        for name in ('min_channels', 'max_channels'):
            value = getattr(self, name)
            check(
                is_int(value, 1) or (value is None and name[:3] == 'max'),
                name, value, 'an int >= 1')
        for name in ('include', 'exclude'):
            values = as_tuple(getattr(self, name))
            check(
                (values is None and name == 'include')
                or (values is not None
                    and all(isinstance(v, str) for v in values)),
                name, getattr(self, name), 'a name, or several')

    def check_names(self, found: Sequence[FoundConv]) -> None:
        """Check that each name fits a convolution of the module.

        Raises:
            ValueError: If one fits none; lists the names.
        """
        names = [name for conv in found for name in conv.names]
        for option in ('include', 'exclude'):
            for pattern in as_tuple(getattr(self, option)) or ():
                if not any(matches(name, pattern) for name in names):
                    parts = dict.fromkeys(n.split('.')[0] for n in names)
                    raise ValueError(
                        f'select: {option}={pattern!r} is not the name of any '
                        f'convolution, nor of a part that has one. Parts: '
                        f'{", ".join(parts)}; e.g. {names[-1]!r}'
                        if names else f'select: {option}={pattern!r}: the '
                        'module has no convolutions')

    def reason_against(self, found: FoundConv,
                       module: nn.Module) -> str | None:
        """Why a convolution of ``module`` is not replaced, None if it is."""
        return next(self._reasons(found, module), None)

    def _reasons(self, found: FoundConv, module: nn.Module) -> Iterator[str]:
        conv = found.conv
        named = self.include is not None and any(
            matches(name, pattern) for pattern in as_tuple(self.include)
            for name in found.names)
        if type(conv) not in DENSE_TYPES:
            yield f'{type(conv).__name__}, not nn.Conv2d'
            return
        if self.include is not None and not named:
            yield 'not in include'
        if any(matches(name, pattern) for pattern in as_tuple(self.exclude)
               for name in found.names):
            yield 'in exclude'
        size = 'x'.join(map(str, conv.kernel_size))
        if self.groups and conv.groups not in as_tuple(self.groups):
            yield ('depth-wise' if conv.groups == conv.in_channels else
                   'grouped') + f' {size}'
        sizes = as_tuple(self.kernel_size)
        if sizes and not set(conv.kernel_size) <= set(sizes):
            yield f'kernel {size}'
        strides = as_tuple(self.stride)
        if strides and not set(conv.stride) <= set(strides):
            yield 'stride {}x{}'.format(*conv.stride)
        if min(conv.in_channels, conv.out_channels) < self.min_channels:
            yield f'fewer than min_channels={self.min_channels}'
        if self.max_channels and max(
                conv.in_channels, conv.out_channels) > self.max_channels:
            yield f'more than max_channels={self.max_channels}'
        if conv.padding_mode != 'zeros':
            yield f'padding_mode={conv.padding_mode!r}'
        if is_hooked(conv):
            yield 'has hooks or a parametrization (spectral norm)'
        if (not named and isinstance(module, (BaseDenseHead, BaseMaskHead))
                and looks_like_predictor(found)):
            yield 'looks like a predictor; name it in include to swap it'
