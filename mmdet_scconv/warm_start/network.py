"""Fits every swapped convolution of a network to the dense network's.

Each network runs forward once. Hooks on the dense one record the outputs of
its convolutions. In the other one, a hook at each swapped convolution fits it
when its input is known; then the forward continues with the fitted layer. So
each layer is fitted to the outputs of the converted layers before it, and can
compensate their errors.
"""
import time
from collections.abc import Callable, Container
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .layers import LayerReport, fit_layer, method_of
from .moments import FitError
from .recorder import Recorder

# share of the images that are held out, for choices and for the errors
HELD_OUT = 0.25


def swapped_names(network: nn.Module, dense: nn.Module) -> list[str]:
    """Names at which ``dense`` has an ``nn.Conv2d`` and ``network`` something
    else."""
    modules = dict(network.named_modules())
    return [
        name for name, conv in dense.named_modules()
        if isinstance(conv, nn.Conv2d) and name in modules
        and not isinstance(modules[name], nn.Conv2d)
    ]


def copy_weights(network: nn.Module, dense: nn.Module,
                 swapped: list[str]) -> None:
    """Copy all weights that are not of swapped convolutions, by name.

    Raises:
        ValueError: If ``network`` has no place for a tensor of ``dense``, or
            one of another shape.
    """
    own = network.state_dict()
    inside = tuple(f'{name}.' for name in swapped)
    ends = tuple(f'{name}.' for name in norms_dropped(network, dense))
    for name, value in dense.state_dict().items():
        if name.startswith(inside + ends):
            continue
        if name not in own or own[name].shape != value.shape:
            raise ValueError(
                f'the dense network does not fit: its {name!r} '
                f'{tuple(value.shape)} is '
                + (f'{tuple(own[name].shape)} in ' if name in own else
                   'not in ') + type(network).__name__)
        own[name].copy_(value)


def norms_dropped(network: nn.Module, dense: nn.Module) -> list[str]:
    """BatchNorms of ``dense`` in whose place ``network`` has an identity,
    as the swapped convolution before ends with its own."""
    modules = dict(network.named_modules())
    return [name for name, norm in dense.named_modules()
            if isinstance(norm, _BatchNorm)
            and isinstance(modules.get(name), nn.Identity)]


@contextmanager
def eval_mode(*networks: nn.Module):
    """In this context all are in eval mode, without gradients; their modes are
    restored at the end."""
    modes = [(m, m.training) for n in networks for m in n.modules()]
    for network in networks:
        network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def call(network: nn.Module, images: Tensor) -> object:
    return network(images)


def call_for_hooks(network: nn.Module, images: Tensor) -> None:
    """Run a network whose outputs are not needed. A backbone would keep those
    of all stages until its end; here it keeps the last one's alone."""
    kept = getattr(network, 'out_indices', None)
    if isinstance(kept, list | tuple):
        network.out_indices = kept[-1:]
    try:
        network(images)
    finally:
        if isinstance(kept, list | tuple):
            network.out_indices = kept


def check_all_ran(names: list[str], found: Container[str]) -> None:
    """Raises:
        ValueError: If a convolution is not among those that ran.
    """
    idle = [name for name in names if name not in found]
    if idle:
        raise ValueError(f'{idle[0]!r} did not run: `run` must call all '
                         'convolutions to be fitted')


def fit_network(
    network: nn.Module,
    dense: nn.Module,
    images: Tensor,
    run: Callable[[nn.Module, Tensor], object] = call_for_hooks,
    report: Callable[[LayerReport, int], None] = lambda report, total: None,
) -> list[LayerReport]:
    """Start a network with swapped convolutions from the dense one's weights.

    Args:
        network (nn.Module): Any; changed in place. Where ``dense`` has an
            ``nn.Conv2d`` it may have another layer of the same name. All other
            weights are copied by name.
        dense (nn.Module): The same with ``nn.Conv2d``, and with its weights.
        images (Tensor): (N, 3, H, W), as the network gets them.
        run (Callable): Calls a network with images, so that all convolutions
            to be fitted run. Defaults to ``network(images)``.
        report (Callable): Called after each layer, with its report and the
            number of all layers.

    Returns:
        list: A report for each swapped convolution, in execution order.

    Raises:
        ValueError: If the networks do not fit, or images are too few.
        FitError: If a convolution cannot be fitted; names it.
    """
    if len(images) < 2:
        raise ValueError(f'{len(images)} images: at least two are needed, to '
                         'fit to and to hold out')
    names = swapped_names(network, dense)
    if not names:
        raise ValueError(
            f'{type(network).__name__} has no swapped convolution: nowhere a '
            'layer other than nn.Conv2d where the dense network has one')
    copy_weights(network, dense, names)
    sample = len(images) - max(1, round(HELD_OUT * len(images)))
    reports: list[LayerReport] = []
    with eval_mode(network, dense):
        recorder = Recorder(network, dense, names,
                            norms_dropped(network, dense))
        try:
            run(dense, images)
        finally:
            recorder.remove()
        targets = recorder.targets
        check_all_ran(names, targets)

        shortcuts: dict[str, Tensor] = {}
        blocks = {t.block for t in targets.values() if t.block is not None}

        def keep_shortcut(name: str, _, inputs: tuple) -> None:
            shortcuts[name] = inputs[0]

        def fit_at(name: str, layer: nn.Module, inputs: tuple) -> None:
            target = targets.pop(name, None)
            if target is None:
                return
            x = inputs[0]
            shortcut = shortcuts.pop(target.block, None)
            start = time.perf_counter()
            try:
                unexplained = fit_layer(layer, x, target, sample,
                                        len(reports), shortcut)
            except FitError as error:
                raise FitError(f'{name}: {error}') from error
            reports.append(LayerReport(name, method_of(layer), unexplained,
                                       time.perf_counter() - start))
            report(reports[-1], len(names))

        handles = [
            layer.register_forward_pre_hook(partial(fit_at, name))
            for name, layer in recorder.layers.items()
        ] + [
            network.get_submodule(name).register_forward_pre_hook(
                partial(keep_shortcut, name)) for name in blocks
        ]
        try:
            run(network, images)
        finally:
            for handle in handles:
                handle.remove()
        check_all_ran(names, [report.name for report in reports])
    return reports
