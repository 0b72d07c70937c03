"""Trains the swapped convolutions of a network towards the dense one's
outputs: gradient descent on images without labels."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .network import call, eval_mode, swapped_names

BATCH_SIZE = 32


def tensors_of(output: object) -> Iterator[Tensor]:
    """The floating-point tensors in an output of nested lists and dicts."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from tensors_of(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from tensors_of(value)


@contextmanager
def trained_alone(network: nn.Module,
                  parameters: list[nn.Parameter]) -> Iterator[None]:
    """In this context only these parameters of a network get gradients; they
    are removed at the end."""
    required = [(p, p.requires_grad) for p in network.parameters()]
    network.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, value in required:
            parameter.requires_grad_(value)
            parameter.grad = None


def distill_network(
    network: nn.Module,
    dense: nn.Module,
    images: Tensor,
    steps: int = 200,
    lr: float = 1e-3,
    run: Callable[[nn.Module, Tensor], object] = call,
    advance: Callable[[float], None] = lambda loss: None,
) -> list[float]:
    """Train a fitted network's swapped convolutions, all at once.

    The loss is the mean over the network's outputs (feature maps of a
    backbone, scores of a classifier) of the squared difference to the dense
    network's, divided by the variance. Adam, cosine decay; BatchNorms keep
    their statistics; nothing else is trained.

    Args:
        network (nn.Module): After :func:`.network.fit_network`; changed in
            place.
        dense (nn.Module): As there.
        images (Tensor): As there.
        steps (int): Of 32 images each. Defaults to 200.
        lr (float): Learning rate at the start. Defaults to 1e-3.
        run (Callable): Calls a network with images. Defaults to
            ``network(images)``.
        advance (Callable): Called with the loss after each step.

    Returns:
        list: The loss of each step.
    """
    layers = [network.get_submodule(name)
              for name in swapped_names(network, dense)]
    parameters = [p for layer in layers for p in layer.parameters()]
    generator = torch.Generator().manual_seed(0)
    losses, order = [], torch.zeros(0, dtype=torch.long)
    adam = torch.optim.Adam(parameters, lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    with eval_mode(network, dense), trained_alone(network, parameters):
        for _ in range(steps):
            if not len(order):
                order = torch.randperm(len(images), generator=generator)
            batch, order = images[order[:BATCH_SIZE]], order[BATCH_SIZE:]
            targets = list(tensors_of(run(dense, batch)))
            with torch.enable_grad():
                loss = sum(
                    (output - target).square().mean() / target.var()
                    for output, target in zip(
                        tensors_of(run(network, batch)), targets))
                loss = loss / len(targets)
                adam.zero_grad()
                loss.backward()
            adam.step()
            schedule.step()
            losses.append(float(loss))
            advance(losses[-1])
    return losses
