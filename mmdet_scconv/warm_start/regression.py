"""Fits any layer to a dense convolution's outputs by gradient descent."""
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

STEPS = 200
LR = 1e-2
POSITIONS = 2**14  # output positions in a batch, about


def estimate_statistics(module: nn.Module, inputs: list[Tensor]) -> None:
    """Set the running statistics of a module's BatchNorms to their mean over
    batches, and leave them in eval mode."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
        norm.train()
    with torch.no_grad():
        for x in inputs:
            module(x)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
        norm.eval()


def unexplained(output: Tensor, target: Tensor, scale: Tensor) -> float:
    """Share of a target's variance that an output leaves unexplained.

    Args:
        output, target (Tensor): (N, C, H, W).
        scale (Tensor): (C, ), factor of each channel in the error.
    """
    scale = scale.double().square()
    error = (output - target).double().square().mean((0, 2, 3))
    variance = target.double().var((0, 2, 3), correction=0)
    return float((scale * error).sum() / (scale * variance).sum())


def regress_layer(layer: nn.Module, x: Tensor, target: Tensor,
                  scale: Tensor, sample: int, seed: int) -> float:
    """Initialise a layer and train it towards a target.

    Adam with cosine decay; the layer's BatchNorms use batch statistics, which
    are estimated anew at the end.

    Args:
        layer (nn.Module): Changed in place, left in eval mode.
        x (Tensor): (N, C, H, W), its inputs.
        target (Tensor): (N, C', H', W').
        scale (Tensor): (C', ), factor of each output channel in the error.
        sample (int): Number of images to fit to; the others measure the error.
        seed (int): Of the initial weights and the order of the images.

    Returns:
        float: Share of the variance that is unexplained on images held out.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in layer.modules():
            if hasattr(module, 'reset_parameters'):
                module.reset_parameters()
    generator = torch.Generator().manual_seed(seed)
    size = min(sample, max(2, POSITIONS // target[0, 0].numel()))
    weight = scale.float().square()
    weight = weight / (weight * target.var((0, 2, 3))).sum()
    weight = weight.view(-1, 1, 1) * len(weight)
    parameters = [p for p in layer.parameters()]
    required = [p.requires_grad for p in parameters]
    layer.requires_grad_(True).train()
    adam = torch.optim.Adam(parameters, LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, STEPS)
    with torch.enable_grad():
        for _ in range(STEPS):
            chosen = torch.randperm(sample, generator=generator)[:size]
            error = layer(x[chosen]) - target[chosen]
            loss = (weight * error.square()).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
    for parameter, value in zip(parameters, required):
        parameter.requires_grad_(value)
        parameter.grad = None
    layer.eval()
    estimate_statistics(layer, x[:sample].split(64))
    with torch.no_grad():
        return unexplained(layer(x[sample:]), target[sample:], scale)
