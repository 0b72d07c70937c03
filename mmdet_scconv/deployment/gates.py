"""Which images can be judged: those whose result does not depend on rounding.

An SRU compares each value with a threshold. If rounding moves a value across
it, all later values differ by percents. Two computations that round
differently then give different results, for example PyTorch in float32 and in
float64. Therefore an image is judged only if none of its values comes near a
threshold.
"""
import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..layers.scconv import SRU, SCConv

# A value is near a threshold within so many times the rounding of its channel
# (root mean square of float32's difference to float64's).
NEAR = 4


class Gates:
    """The thresholds of the SRUs in a module.

    Args:
        module (nn.Module): Called with images; stays as it is.
    """

    def __init__(self, module: nn.Module) -> None:
        self.networks = ()
        if not any(isinstance(part, SRU) for part in module.modules()):
            return
        single = copy.deepcopy(module)
        for part in single.modules():
            if isinstance(part, SCConv):
                part.implementation = 'reference'  # in which hooks fire
        self.networks = single, copy.deepcopy(single).double()

    def clear(self, images: Tensor) -> list[bool]:
        """Whether no value of an image comes near a threshold.

        Args:
            images (Tensor): (N, 3, H, W), float32.
        """
        found = [True] * len(images)
        if not self.networks:
            return found
        single, double = self.networks
        with torch.no_grad(), gated_values(single) as rounded, \
                gated_values(double) as exact:
            single(images)
            double(images.double())
        for (one, values), (other, _) in zip(rounded, exact, strict=True):
            rounding = (one.double() - other).square().mean((2, 3), True)
            near = other.abs() <= NEAR * rounding.sqrt()
            near &= values != 0  # zeros of a ReLU stay 0 on either side
            found = [clear and not near[i].any()
                     for i, clear in enumerate(found)]
        return found


@contextmanager
def gated_values(network: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collect, for each call of an SRU, the distances of its logits from the
    threshold, and the gated values: (N, C, H, W)."""
    found = []
    handles = [
        part.register_forward_pre_hook(
            lambda sru, inputs: found.append(
                (sru.gate_logits(inputs[0]) - sru.gate_logit_threshold,
                 inputs[0])))
        for part in network.modules() if isinstance(part, SRU)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
