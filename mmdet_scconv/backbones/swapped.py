"""Any backbone, neck or head of MMDetection with other convolutions.

``dict(type='Swapped', module=dict(type='CSPNeXt', ...))`` in a config.
"""
import functools
import math
from collections.abc import Iterator, Mapping

from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..layers import SCConv
from ..layers.common import check
from .select_convs import FoundConv, Select, find_convs
from .swap_conv import class_of, swap_conv
from .swap_report import SwapReport
from .swapped_module import SwappedModule


def count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def norm_of(found: FoundConv, module: nn.Module) -> dict:
    """MM config of the norm behind a convolution; BatchNorm if there is none.
    """
    parent = found.parent
    if isinstance(parent, ConvModule) and parent.norm_cfg is not None:
        return parent.norm_cfg
    return getattr(module, 'norm_cfg', None) or dict(type='BN')


def registered_type(cfg: dict) -> type:
    """The class of a convolution's config.

    Raises:
        ValueError: If it has no type, or an unknown one.
    """
    name = cfg.get('type')
    if not isinstance(name, str):
        check(isinstance(name, type), 'conv', cfg,
              "the name of a convolution, e.g. dict(type='SCConv')")
        return name
    found = class_of(name)
    check(found is not None, 'conv', cfg, f'no convolution is registered as '
          f'{name!r}; is the module that does it in custom_imports?')
    return found


def fitting_options(conv: nn.Conv2d, cfg: dict,
                    conv_type: type) -> Iterator[dict]:
    """Options to try one after the other, in addition to the given ones.

    The groups inside an SCConv (16 of the gate's norm, 2 of the GWC) do not
    divide every width.
    """
    yield {}
    if not issubclass(conv_type, SCConv):
        return
    fewer = dict(
        gn_groups=math.gcd(16, conv.in_channels, conv.out_channels),
        gwc_groups=1)
    fewer = {name: value for name, value in fewer.items() if name not in cfg}
    for last in range(1, len(fewer) + 1):
        yield dict(list(fewer.items())[:last])


def new_conv(found: FoundConv, cfg: dict, conv_type: type,
             norm_cfg: dict) -> tuple[nn.Module, dict]:
    """Build the replacement of a convolution, on its device, frozen if it is
    frozen.

    Returns:
        tuple: The new one; its options of :func:`fitting_options`.

    Raises:
        ValueError: If it cannot be built for this place; the error is that of
            the given options.
    """
    conv, first_error = found.conv, None
    for options in fitting_options(conv, cfg, conv_type):
        try:
            new = swap_conv(conv, {**cfg, **options}, norm_cfg)
            break
        except ValueError as error:
            first_error = first_error or error
    else:
        raise first_error
    check(
        new.out_channels == conv.out_channels, 'conv', cfg,
        f'gives {new.out_channels} output channels where '
        f'{conv.out_channels} are needed')
    new.to(conv.weight).train(conv.training)
    if not conv.weight.requires_grad:
        new.requires_grad_(False)
    return new, options


def replace(module: nn.Module, names: tuple[str, ...],
            new: nn.Module) -> None:
    """Set a submodule under all its names."""
    for name in names:
        module.set_submodule(name, new)
        parent = module.get_submodule(name.rpartition('.')[0])
        if isinstance(parent, ConvModule):  # it reads a dense weight
            parent.turn_on_efficient_conv_bn_eval(False)


def swap_convs(module: nn.Module,
               conv: Mapping | None = None,
               select: Mapping | None = None) -> SwapReport:
    """Replace convolutions of a module, in place, under the same names.

    A convolution that several modules share is replaced by one that they
    share. The new ones are randomly initialised. Norms stay.

    Args:
        module (nn.Module): Any.
        conv (dict, optional): Type and options of the new convolutions, as
            ``conv_cfg`` of MM libraries; ``norm_cfg`` in it is of the norms
            inside. Defaults to ``dict(type='SCConv')``, with the norm that
            follows the convolution.
        select (dict, optional): See :class:`.select_convs.Select`.

    Returns:
        SwapReport: What was replaced and what not.

    Raises:
        ValueError: For an unknown type or a wrong option; if none of the
            selected convolutions can be replaced. The module is then
            unchanged.
    """
    rules = Select.of(select)
    cfg = dict(conv or dict(type='SCConv'))
    norm_cfg = cfg.pop('norm_cfg', None)
    conv_type = registered_type(cfg)
    report = SwapReport(type(module).__name__, conv_type.__name__)
    convs = find_convs(module)
    rules.check_names(convs)
    before = count_parameters(module)
    new, errors = {}, []
    for found in convs:
        reason = rules.reason_against(found, module)
        if reason is None:
            try:
                new[found.names], options = new_conv(
                    found, cfg, conv_type, norm_cfg or norm_of(found, module))
            except ValueError as error:
                reason = str(error)
                errors.append((found.name, reason))
        if reason is not None:
            report.passed_over[found.name] = reason
            continue
        report.swapped[found.name] = str(found)
        if found.names[1:]:
            report.shared[found.name] = found.names[1:]
            if any(isinstance(part, _BatchNorm)
                   for part in new[found.names].modules()):
                report.shared_norms.append(found.name)
        if options:
            report.fitted[found.name] = ', '.join(
                f'{name}={value}' for name, value in options.items())
    if errors and not new:
        raise ValueError(
            f'none of the {len(errors)} convolutions of {report.module} that '
            f'select={dict(select or {})} leaves can be swapped; '
            f'{errors[0][0]}: {errors[0][1]}')
    for names, part in new.items():
        replace(module, names, part)
    report.params = (before, count_parameters(module))
    return report


@functools.cache
def swapped_class(cls: type) -> type:
    """The class of a swapped module: ``cls`` with :class:`SwappedModule`."""

    def reduce(self, protocol):  # pickle does not find a class made here
        return empty, (cls, ), self.__getstate__()

    return type(f'Swapped{cls.__name__}', (SwappedModule, cls), {
        '__doc__': cls.__doc__,
        '__module__': cls.__module__,
        '__reduce_ex__': reduce
    })


def empty(cls: type) -> nn.Module:
    """An instance without attributes, which pickle and copy fill."""
    swapped = swapped_class(cls)
    return swapped.__new__(swapped)


@MODELS.register_module(name='Swapped')
def build_swapped(module: Mapping,
                  conv: Mapping | None = None,
                  select: Mapping | None = None,
                  swapped_init: str = 'fit',
                  freeze_without_weights: bool = False,
                  **options) -> nn.Module:
    """Build a module of MMDetection and replace convolutions of it.

    In a config::

        model = dict(backbone=dict(
            type='Swapped',
            module=dict(type='CSPNeXt', ...),
            conv=dict(type='SCConv'),
            select=dict(exclude='stem')))

    The result is an instance of the module's class, with the same names of
    submodules. If nothing is selected, its outputs and its state dict are
    unchanged.

    ``module`` may be another ``Swapped`` or an ``SCConvResNet``, with another
    convolution elsewhere in it.

    What was swapped is logged. ``init_cfg`` works as usual; a pretrained
    checkpoint fills what fits, see :class:`.swapped_module.SwappedModule`.

    Args:
        module (dict): Config of a backbone, neck or head.
        conv, select: See :func:`swap_convs`.
        swapped_init, freeze_without_weights: See :class:`SwappedModule`.
        **options: Further arguments of the module: those of a base config, and
            those that a detector passes to its heads (``train_cfg`` ...).

    Returns:
        nn.Module: The attribute ``swap_report`` tells what was replaced.

    Raises:
        ValueError: See :func:`swap_convs`.
    """
    for name, value in dict(module=module, conv=conv, select=select).items():
        check(value is None or isinstance(value, Mapping), name, value,
              'a dict')
    dense_cfg = {**options, **module}
    built = MODELS.build(dense_cfg)
    dense_cfg['type'] = type(built)  # found from any scope
    check(
        isinstance(built, BaseModule), 'module', module,
        f'{type(built).__name__} is not a mmengine.model.BaseModule, which '
        'loads weights by init_cfg')
    dense_shapes = {k: v.shape for k, v in built.state_dict().items()}
    report = swap_convs(built, conv, select)
    report.log()
    swapped = [name for first in report.swapped
               for name in (first, *report.shared.get(first, ()))]
    if isinstance(built, SwappedModule):  # a second swap
        swapped = [*built.swapped_convs, *swapped]
        dense_cfg, dense_shapes = built.dense_cfg, built.dense_shapes
    else:
        built.__class__ = swapped_class(type(built))
    built.note_swap(swapped, dense_cfg, dense_shapes, swapped_init,
                    freeze_without_weights)
    built.swap_report = report
    return built
