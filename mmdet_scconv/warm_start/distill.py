"""Trains the swapped convolutions of a network towards the dense one's
outputs: gradient descent on images without labels."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .network import call, eval_mode, swapped_names

STEPS = 200
STEPS_OF_SCORES = 2000  # where a classifier's scores are among the outputs
LR = 1e-3
BATCH_SIZE = 32
WARM_UP = 0.1  # share of the steps
SHIFT = 8  # images are shifted by up to this part of their size


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (N, 3, H, W), each one mirrored or not, and shifted by up to an
    eighth of its size; the border is filled by reflection."""
    count, _, height, width = images.shape
    up, left = height // SHIFT, width // SHIFT
    padded = F.pad(images, (left, left, up, up), mode='reflect')

    def places(size: int, pad: int) -> Tensor:
        first = torch.randint(2 * pad + 1, (count, 1), generator=generator)
        return first + torch.arange(size)

    rows, columns = places(height, up), places(width, left)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    index = (torch.arange(count)[:, None, None], rows[:, :, None],
             columns[:, None])
    n, y, x = (i.to(images.device) for i in index)
    return padded[n, :, y, x].permute(0, 3, 1, 2).contiguous()


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
    steps: int = STEPS,
    lr: float = LR,
    run: Callable[[nn.Module, Tensor], object] = call,
    advance: Callable[[float], None] = lambda loss: None,
) -> list[float]:
    """Train a fitted network's swapped convolutions, all at once.

    The loss is the mean over the network's outputs (feature maps of a
    backbone, scores of a classifier) of the squared difference to the dense
    network's, divided by the variance. Adam, warm-up and cosine decay;
    BatchNorms keep their statistics; nothing else is trained. Images are
    mirrored and shifted at random, by :func:`augmented`.

    Args:
        network (nn.Module): After :func:`.network.fit_network`; changed in
            place.
        dense (nn.Module): As there.
        images (Tensor): As there.
        steps (int): Of 32 images each. Defaults to 200.
        lr (float): Highest learning rate. Defaults to 1e-3.
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
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        adam, lr, max(2, steps), pct_start=WARM_UP, cycle_momentum=False)
    with eval_mode(network, dense), trained_alone(network, parameters):
        for _ in range(steps):
            if not len(order):
                order = torch.randperm(len(images), generator=generator)
            batch = augmented(images[order[:BATCH_SIZE]], generator)
            order = order[BATCH_SIZE:]
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
            losses.append(float(loss.detach()))
            advance(losses[-1])
    return losses
