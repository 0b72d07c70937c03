"""Fits every swapped convolution of a network to the dense network's.

One forward of each network is all: hooks on the dense one record what its
convolutions give; then, in the other one, a hook at each swapped convolution
fits it as soon as its input is there, and the forward goes on with what it
gives then. So each sees what the converted layers before it give, and can
make good for their errors.
"""
import time
from collections.abc import Callable
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .layers import (
    CLOSED_FORM,
    LayerReport,
    Target,
    fit_layer,
    method_of,
)
from .moments import FitError, LinearForm

# share of the images that choices are made and errors are measured on
HELD_OUT = 0.25
# positions to fit to: a multiple of the features, at least so many
POSITIONS_PER_FEATURE = 24
MIN_POSITIONS = 2**16
# values of a layer's output that a regression is given
REGRESSION_VALUES = 2**24


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
    """Copy all that is not swapped, by name.

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


def slope(norm: _BatchNorm | None, channels: int) -> Tensor:
    """What a norm multiplies its input with, (channels, ), none near 0."""
    if norm is None:
        return torch.ones(channels, dtype=torch.float64)
    found = (norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
             ).double().abs()
    return found.clamp(min=1e-3 * max(float(found.max()), 1e-9))


@contextmanager
def eval_mode(*networks: nn.Module):
    """All in eval mode, without gradients; their modes come back."""
    modes = [(m, m.training) for n in networks for m in n.modules()]
    for network in networks:
        network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


class Recorder:
    """Hooks on a dense network that keep what its convolutions give."""

    def __init__(self, network: nn.Module, dense: nn.Module,
                 names: list[str]) -> None:
        self.targets: dict[str, Target] = {}
        self.layers = {name: network.get_submodule(name) for name in names}
        self.last: tuple[str, Tensor] | None = None
        self.handles = [
            dense.get_submodule(name).register_forward_hook(
                lambda _, inputs, output, name=name: self.on_conv(
                    name, output)) for name in names
        ]
        self.handles += [
            module.register_forward_hook(self.on_norm)
            for module in dense.modules() if isinstance(module, _BatchNorm)
        ]

    def on_conv(self, name: str, output: Tensor) -> None:
        if name not in self.targets:  # else: shared by several levels
            self.keep(name, output, None)
            self.last = name, output

    def on_norm(self, norm: nn.Module, inputs: tuple,
                output: Tensor) -> None:
        if self.last is None or inputs[0] is not self.last[1]:
            return
        name, self.last = self.last[0], None
        if getattr(self.layers[name], 'ends_with_norm', False):
            self.keep(name, output, None)
        else:
            self.targets[name].scale = slope(norm, output.shape[1])

    def keep(self, name: str, output: Tensor, norm) -> None:
        layer = self.layers[name]
        scale = slope(norm, output.shape[1]).to(output.device)
        per_image = output[0, 0].numel()
        if method_of(layer) != CLOSED_FORM:
            count = max(2, REGRESSION_VALUES // output[0].numel())
            self.targets[name] = Target(
                output[:count].clone(), None, scale, per_image)
            return
        total = len(output) * per_image
        wanted = max(POSITIONS_PER_FEATURE * LinearForm.of(layer).size,
                     MIN_POSITIONS)
        generator = torch.Generator().manual_seed(len(self.targets))
        chosen = torch.randperm(total, generator=generator)[:wanted].sort(
            ).values.to(output.device)
        n, position = chosen // per_image, chosen % per_image
        self.targets[name] = Target(
            output.flatten(2)[n, :, position], chosen, scale, per_image)

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


def summary(reports: list[LayerReport], bad: float = 0.7) -> list[str]:
    """One line for each group of layers, for a log, and a last one where a
    layer misses much.

    Args:
        reports (list): Of :func:`fit_network`.
        bad (float): Share of the variance. Defaults to 0.7.
    """
    groups: dict[str, list[LayerReport]] = {}
    for report in reports:
        groups.setdefault(group_of(report.name), []).append(report)
    lines = [
        f'{group or "network"}: {len(members)} layers fitted '
        f'({", ".join(sorted({r.method for r in members}))}), unexplained '
        f'variance {min(r.unexplained for r in members):.0%} to '
        f'{max(r.unexplained for r in members):.0%}'
        for group, members in groups.items()
    ]
    worst = [r.name for r in reports if not r.unexplained < bad]
    if worst:
        lines.append(
            f'WARNING: {len(worst)} of {len(reports)} layers leave more than '
            f'{bad:.0%} of the variance unexplained, e.g. {worst[0]}: the '
            'network starts far from the dense one. Fit to more images, or '
            'to images like those that the dense network was trained on')
    return lines


def group_of(name: str) -> str:
    """The stage that a layer is in: its name up to the first number or the
    first numbered part."""
    parts = name.split('.')
    for i, part in enumerate(parts):
        if part.isdigit():
            return '.'.join(parts[:i])
    return '.'.join(parts[:-1])


def call(network: nn.Module, images: Tensor) -> object:
    return network(images)


def fit_network(
    network: nn.Module,
    dense: nn.Module,
    images: Tensor,
    run: Callable[[nn.Module, Tensor], object] = call,
    report: Callable[[LayerReport, int], None] = lambda report, total: None,
) -> list[LayerReport]:
    """Start a network with swapped convolutions from the dense one's weights.

    Args:
        network (nn.Module): Any; changed in place. Where ``dense`` has an
            ``nn.Conv2d`` it may have another layer of the same name. All else
            is copied by name.
        dense (nn.Module): The same with ``nn.Conv2d``, and with its weights.
        images (Tensor): (N, 3, H, W), as the network gets them.
        run (Callable): Calls a network with images, and all convolutions to
            be fitted. Defaults to ``network(images)``.
        report (Callable): Called with the report of each layer when it is
            done, and how many there are.

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
        recorder = Recorder(network, dense, names)
        try:
            run(dense, images)
        finally:
            recorder.remove()
        targets = recorder.targets
        idle = [name for name in names if name not in targets]
        if idle:
            raise ValueError(f'{idle[0]!r} did not run: `run` must call all '
                             'convolutions to be fitted')

        def fit_at(name: str, layer: nn.Module, x: Tensor) -> None:
            target = targets.pop(name, None)
            if target is None:
                return
            start = time.perf_counter()
            try:
                unexplained = fit_layer(layer, x, target, sample,
                                        len(reports))
            except FitError as error:
                raise FitError(f'{name}: {error}') from error
            reports.append(LayerReport(name, method_of(layer), unexplained,
                                       time.perf_counter() - start))
            report(reports[-1], len(names))

        handles = [
            layer.register_forward_pre_hook(
                lambda layer, inputs, name=name: fit_at(
                    name, layer, inputs[0]))
            for name, layer in recorder.layers.items()
        ]
        try:
            run(network, images)
        finally:
            for handle in handles:
                handle.remove()
    return reports
