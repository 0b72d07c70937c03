"""Records the outputs of a dense network's convolutions in one forward."""
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .layers import CLOSED_FORM, Target, method_of
from .moments import LinearForm

# positions to fit to: a multiple of the features, at least so many
POSITIONS_PER_FEATURE = 24
MIN_POSITIONS = 2**15
# values of a layer's output that a regression is given
REGRESSION_VALUES = 2**24


def slope(norm: _BatchNorm | None, channels: int) -> Tensor:
    """The factors of a norm: (channels, ), float64."""
    if norm is None:
        return torch.ones(channels, dtype=torch.float64)
    return (norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
            ).double()


class Recorder:
    """Hooks on a dense network that keep the outputs of its convolutions.

    Args:
        network (nn.Module): The one with swapped convolutions.
        dense (nn.Module): The dense one.
        names (list): Of the swapped convolutions.
        dropped (list): Of the dense network's norms that the other one lacks.
    """

    def __init__(self, network: nn.Module, dense: nn.Module,
                 names: list[str], dropped: list[str]) -> None:
        self.targets: dict[str, Target] = {}
        self.dropped = {dense.get_submodule(name) for name in dropped}
        self.layers = {name: network.get_submodule(name) for name in names}
        # name and output of the last convolution, until its norm has run
        self.last: tuple[str, Tensor] | None = None
        # inputs of the modules that run, and norms' outputs inside them
        self.inputs: dict[str, Tensor] = {}
        self.branches: dict[str, tuple[str, Tensor]] = {}
        self.handles = []
        for name in names:
            self.handles.append(dense.get_submodule(name)
                                .register_forward_hook(partial(
                                    self.on_conv, name)))
        for module in dense.modules():
            if isinstance(module, _BatchNorm):
                self.handles.append(module.register_forward_hook(self.on_norm))
        for name, block in dense.named_modules():
            if name and any(conv.startswith(f'{name}.') for conv in names):
                self.handles += [
                    block.register_forward_pre_hook(partial(
                        self.before_block, name)),
                    block.register_forward_hook(partial(
                        self.after_block, name))
                ]

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()

    def on_conv(self, name: str, conv: nn.Module, inputs: tuple,
                output: Tensor) -> None:
        if name not in self.targets:  # else: shared by several levels
            self.keep(name, output)
            self.last = name, output

    def on_norm(self, norm: nn.Module, inputs: tuple,
                output: Tensor) -> None:
        if self.last is None or inputs[0] is not self.last[1]:
            return
        name, self.last = self.last[0], None
        if norm in self.dropped:
            self.keep(name, output)
            return
        found = slope(norm, output.shape[1]).to(output.device)
        if not found.any():
            # as in an untrained residual branch: the norm's output is
            # constant, so fit to the convolution's own output
            return
        self.targets[name].slope = found
        if self.targets[name].positions is None:
            return
        for block, x in self.inputs.items():
            if name.startswith(f'{block}.') and x.shape == output.shape:
                # a copy, as sums are often done in place
                self.branches[block] = name, output.clone()

    def before_block(self, block: str, module: nn.Module,
                     inputs: tuple) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            self.inputs[block] = inputs[0]

    def after_block(self, block: str, module: nn.Module, inputs: tuple,
                    output: object) -> None:
        """Find out whether the block adds a branch to its input."""
        x = self.inputs.pop(block, None)
        name, branch = self.branches.pop(block, (None, None))
        if name is None or not isinstance(output, Tensor):
            return
        branch += x
        if torch.equal(output, branch) or torch.equal(output, branch.relu()):
            target = self.targets[name]
            target.block, target.shortcut = block, target.rows(x)

    def keep(self, name: str, output: Tensor) -> None:
        """Keep an output, with a slope of 1."""
        layer = self.layers[name]
        ones = slope(None, output.shape[1]).to(output.device)
        per_image = output[0, 0].numel()
        if method_of(layer) != CLOSED_FORM:
            count = max(2, REGRESSION_VALUES // output[0].numel())
            self.targets[name] = Target(
                output[:count].clone(), None, ones, per_image)
            return
        total = len(output) * per_image
        wanted = max(POSITIONS_PER_FEATURE * LinearForm.of(layer).size,
                     MIN_POSITIONS)
        generator = torch.Generator().manual_seed(len(self.targets))
        chosen = torch.randperm(total, generator=generator)[:wanted].sort(
            ).values.to(output.device)
        target = Target(output, chosen, ones, per_image)
        target.values = target.rows(output)
        self.targets[name] = target
