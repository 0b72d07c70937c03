"""Judges image by image whether an exported file does the same as the model.

Each image that can be judged (:mod:`.gates`) must agree.
"""
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from .gates import Gates

# Small images, so that few values come near a threshold; odd sizes, and a
# batch of one. A .pt2 cannot be run where a map that was wider is one pixel
# wide.
CHECKED = ((1, 40, 56), (2, 33, 47), (3, 34, 33))
DETECTOR_CHECKED = ((1, 65, 96), (2, 67, 65), (3, 66, 70))
# see is_undecided()
COPIES, PERTURBATION = 8, 1e-6
# A file that is wrong on a tenth of all images is wrong on at least one of so
# many with a probability of 0.999.
JUDGED = 64
MOST_DRAWN = 10 * JUDGED  # number of random images that are drawn at most
# Pictures are judged with a few random perturbations, as large as they can be.
PICTURE_DRAWS, PICTURE_JUDGED, PICTURE_NOISE = 20, 4, 0.01
LEAST_SIZE, PICTURE_SIZES = 66, (160, 112, 80, 66)


class ExportError(UserError):
    """A file that cannot be made, that differs from the model, or that cannot
    be judged.

    Args:
        message (str): What is wrong, in one line.
        comparisons (Sequence[Comparison]): What was measured until then.
    """

    def __init__(self, message: str, comparisons: Sequence = ()) -> None:
        super().__init__(message)
        self.comparisons = comparisons


@dataclass(frozen=True)
class Difference:
    """The difference of outputs that should be equal.

    ``absolute``: the largest one; ``relative``: the largest one relative to
    the largest value of its output. ``compared``: how many values, or
    detections.
    """

    absolute: float
    relative: float
    compared: int


def image_difference(expected: Sequence[Tensor],
                     found: Sequence[Tensor]) -> Difference:
    """Compare the outputs of one image value by value. The difference is
    infinite if shapes differ, or if only one has a NaN."""
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
        reference (nn.Module): The module that the file must agree with, called
            in the same way.
        outputs (tuple): Names of the tensors.
        metadata (dict): What a user of the file must know, e.g. mean and std
            of the images; written into the file.
        differences (Callable): Of the reference's outputs and a file's, for
            each image of a batch.
        shapes (tuple): Batch sizes, heights and widths to check with.
        gated (nn.Module): The part of the reference that has the SRUs, called
            with images; must run in float64. Defaults to the reference.
    """

    module: nn.Module
    reference: nn.Module
    outputs: tuple[str, ...]
    metadata: dict[str, str] = field(default_factory=dict)
    differences: Callable[[Sequence[Tensor], Sequence[Tensor]],
                          list[Difference]] = differences
    shapes: tuple[tuple[int, int, int], ...] = CHECKED
    gated: nn.Module | None = None


def is_undecided(part: Part, image: Tensor, tolerance: float) -> bool:
    """Whether a millionth of the pixels changes the reference's own outputs
    of an image, (1, 3, H, W), by more than ``tolerance``.

    A detector has more thresholds than those of the SRUs, e.g. in its NMS.
    """
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
    """The result of judging a file with images of one kind.

    ``absolute``, ``relative`` and ``compared`` refer to the judged images, see
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
                if not clear[i] or wrong and is_undecided(
                        part, images[i:i + 1], self.tolerance):
                    continue
                self.judged += 1
                self.wrong += wrong
                self.absolute = max(self.absolute, difference.absolute)
                self.relative = max(self.relative, difference.relative)
                self.compared += difference.compared


def shrink(images: Tensor, most: int) -> Tensor:
    """Shrink images, (N, 3, H, W), so that they can be judged: the longer side
    to at most ``most`` pixels, if the shorter side allows it."""
    longest = max(images.shape[2:])
    if longest <= most:
        return images
    size = [max(LEAST_SIZE, round(s * most / longest))
            for s in images.shape[2:]]
    return F.interpolate(images, size, mode='bilinear', antialias=True)


def judge_random(part: Part, gates: Gates, run: Callable,
                shapes: Sequence[tuple[int, int, int]], tolerance: float,
                generator: torch.Generator) -> list[Tally]:
    """Judge a file with random images of some shapes, until ``JUDGED`` of
    them were judged or one is wrong.

    Raises:
        ExportError: If too few can be judged.
    """
    tallies = [Tally(tolerance) for _ in shapes]
    while sum(tally.drawn for tally in tallies) < MOST_DRAWN:
        for tally, (batch, height, width) in zip(tallies, shapes):
            tally.look(part, gates, run,
                       torch.randn(batch, 3, height, width,
                                   generator=generator))
        judged = sum(tally.judged for tally in tallies)
        if judged >= JUDGED or any(tally.wrong for tally in tallies):
            return tallies
    raise ExportError(
        f'of {sum(tally.drawn for tally in tallies)} random images {judged} '
        f'could be judged, {JUDGED} are needed: in the others a value comes '
        'so near to the threshold of an SRU that rounding decides. Name '
        'smaller shapes (--check-shapes)')


def judge_picture(part: Part, gates: Gates, run: Callable, picture: Tensor,
                  tolerance: float,
                  generator: torch.Generator) -> tuple[Tensor, Tally]:
    """Judge a file with a shrunken picture, (N, 3, H, W), without and with
    random perturbations.

    Returns:
        tuple: The picture as it was judged, and its :class:`Tally`.

    Raises:
        ExportError: If it cannot be judged in any size.
    """
    for size in PICTURE_SIZES:
        small, tally = shrink(picture, size), Tally(tolerance)
        for draw in range(PICTURE_DRAWS):
            noise = torch.randn(small.shape, generator=generator)
            tally.look(part, gates, run,
                       small + bool(draw) * PICTURE_NOISE * noise)
            if tally.judged >= PICTURE_JUDGED or tally.wrong:
                break
        if tally.judged:
            return small, tally
    raise ExportError(
        'a picture could not be judged in any of '
        f'{PICTURE_DRAWS * len(PICTURE_SIZES)} draws: its values come so near '
        'to the thresholds of the SRUs that rounding decides. Name another')
