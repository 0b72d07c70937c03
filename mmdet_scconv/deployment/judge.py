"""Whether an exported file does what the model does, image by image.

An SRU compares each value with a threshold. Where rounding takes one across,
all that follows differs by percents, in whatever rounds otherwise: PyTorch in
float32 from PyTorch in float64, too. So images are judged of which no value
comes near a threshold, and each of these must agree.
"""
import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..layers.scconv import SRU, SCConv

# Small ones, as few values must come near a threshold; odd
# ones, and a batch of one. A .pt2 cannot be run where a map that was wider is
# one pixel wide.
CHECKED = ((1, 40, 56), (2, 33, 47), (3, 34, 33))
DETECTOR_CHECKED = ((1, 65, 96), (2, 67, 65), (3, 66, 70))
# A value is near a threshold within so many times the rounding of its channel
# (root mean square of float32's difference to float64's).
NEAR = 4
# see moves()
COPIES, PERTURBATION = 8, 1e-6


@dataclass(frozen=True)
class Difference:
    """Of outputs that should be equal.

    ``absolute``: the largest one; ``relative``: the largest one relative to
    the largest value of its output. ``compared``: how many values, or
    detections.
    """

    absolute: float
    relative: float
    compared: int


def image_difference(expected: Sequence[Tensor],
                     found: Sequence[Tensor]) -> Difference:
    """Compare the outputs of one image value by value; infinite where
    shapes differ, or where one has a NaN and the other has not."""
    absolute, relative, compared = 0., 0., 0
    for one, other in zip(expected, found):
        if one.shape != other.shape:
            return Difference(math.inf, math.inf, 0)
        distance = (one.double() - other.double()).abs()
        distance[one == other] = 0  # also of equal infinities
        distance[distance.isnan()] = math.inf
        largest = distance.max().item()
        if largest:
            scale = one.abs().max().item()
            absolute = max(absolute, largest)
            relative = max(relative, largest / scale
                           if scale and math.isfinite(largest) else math.inf)
        compared += one.numel()
    return Difference(absolute, relative, compared)


def differences(expected: Sequence[Tensor],
                found: Sequence[Tensor]) -> list[Difference]:
    """:func:`image_difference` of each image of a batch."""
    return [
        image_difference(*outputs)
        for outputs in zip(zip(*expected), zip(*found))
    ]


@dataclass(frozen=True)
class Part:
    """What is exported.

    Args:
        module (nn.Module): From images, (N, 3, H, W), to a tuple of tensors.
        reference (nn.Module): What its file must agree with, called alike.
        outputs (tuple): Names of the tensors.
        metadata (dict): What a user of the file must know, e.g. mean and std
            of the images; is written into it.
        differences (Callable): Of the reference's outputs and a file's, for
            each image of a batch.
        shapes (tuple): Batch sizes, heights and widths to check with.
        gated (nn.Module): What of the reference has SRUs, called with images;
            must run in float64. Defaults to the reference.
    """

    module: nn.Module
    reference: nn.Module
    outputs: tuple[str, ...]
    metadata: dict[str, str] = field(default_factory=dict)
    differences: Callable[[Sequence[Tensor], Sequence[Tensor]],
                          list[Difference]] = differences
    shapes: tuple[tuple[int, int, int], ...] = CHECKED
    gated: nn.Module | None = None


class Gates:
    """The thresholds in a module: of the SRUs.

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
            near &= values != 0  # what a ReLU left stays 0 on either side
            found = [clear and not near[i].any()
                     for i, clear in enumerate(found)]
        return found


@contextmanager
def gated_values(network: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collects, of each call of an SRU, how far its logits are from the
    threshold, and the values that are gated by them: (N, C, H, W)."""
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


def moves(part: Part, image: Tensor, tolerance: float) -> bool:
    """Whether the reference's own outputs of an image, (1, 3, H, W), change
    by more than ``tolerance`` when its pixels do by a millionth: a detector
    has other thresholds than the SRUs', in its NMS."""
    generator = torch.Generator().manual_seed(0)
    copies = image.repeat(COPIES, 1, 1, 1)
    noise = torch.randn(copies.shape, generator=generator)
    copies[1:] *= 1 + PERTURBATION * noise[1:]
    outputs = part.reference(copies)
    first = [out[:1].expand_as(out) for out in outputs]
    return any(d.relative > tolerance
               for d in part.differences(first, outputs))


@dataclass
class Tally:
    """What was judged of a file with images of one kind.

    ``absolute``, ``relative`` and ``compared`` are of the judged images, see
    :class:`Difference`.
    """

    tolerance: float
    drawn: int = 0
    judged: int = 0
    wrong: int = 0
    absolute: float = 0.
    relative: float = 0.
    compared: int = 0

    def look(self, part: Part, gates: Gates,
             run: Callable[[Tensor], Sequence[Tensor]],
             images: Tensor) -> None:
        """Run the model and its file on images, and judge those that can be.

        Args:
            part (Part): Whose file it is.
            gates (Gates): Of the part.
            run (Callable): The file.
            images (Tensor): (N, 3, H, W).
        """
        self.drawn += len(images)
        clear = gates.clear(images)
        if not any(clear):
            return
        with torch.no_grad():
            found = part.differences(part.reference(images), run(images))
            for i, difference in enumerate(found):
                wrong = difference.relative > self.tolerance
                if not clear[i] or wrong and moves(
                        part, images[i:i + 1], self.tolerance):
                    continue
                self.judged += 1
                self.wrong += wrong
                self.absolute = max(self.absolute, difference.absolute)
                self.relative = max(self.relative, difference.relative)
                self.compared += difference.compared
