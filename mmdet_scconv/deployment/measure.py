"""Times of a file and of PyTorch."""
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .judge import Difference, Part


@dataclass(frozen=True)
class Comparison:
    """Difference and times of a file and PyTorch, on inputs of one kind.

    ``shape``: (N, 3, H, W). ``difference``: the largest of all judged images
    (of the one input, where ``judged`` is 0: it was timed alone). ``judged``
    of ``drawn`` images. Seconds are medians of one call each:
    ``torch_seconds`` of the exported module in eager PyTorch.
    """

    shape: tuple[int, ...]
    difference: Difference
    judged: int
    drawn: int
    torch_seconds: float
    file_seconds: float


def seconds_of(steps: Sequence[Callable], images: Tensor,
               rounds: int) -> list[float]:
    """Median seconds of each step, called by turns."""
    seconds = [[] for _ in steps]
    with torch.no_grad():
        for _ in range(rounds + 1):
            for step, taken in zip(steps, seconds):
                start = time.perf_counter()
                step(images)
                taken.append(time.perf_counter() - start)
    return [statistics.median(taken[1:]) for taken in seconds]


def compare_at(part: Part, run: Callable, images: Tensor,
               rounds: int) -> Comparison:
    """Time a file and the model on images of any size; judges nothing."""
    with torch.no_grad():
        found = part.differences(part.reference(images), run(images))
    return Comparison(
        tuple(images.shape),
        Difference(
            max(d.absolute for d in found), max(d.relative for d in found),
            sum(d.compared for d in found)), 0, len(images),
        *seconds_of((part.module, run), images, rounds))
