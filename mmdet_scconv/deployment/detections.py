"""The differences between the detections of two detectors."""
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .judge import Difference

# A detection whose score is so near to the lowest kept score may be missing,
# because of rounding.
NEAR_CUT = 1e-3
# Coordinates are compared up to here, in pixels: YOLOX's exp() may overflow.
FARTHEST = 1e6


def detection_differences(expected: Sequence[Tensor],
                          found: Sequence[Tensor],
                          score_threshold: float) -> list[Difference]:
    """The difference of each detection to the nearest one of its class among
    the others. The order does not matter, as it depends on rounding.

    Args:
        expected (Sequence[Tensor]): Boxes, scores and labels, as of
            :class:`.two_stage.FasterRCNNGraph`.
        found (Sequence[Tensor]): The same.
        score_threshold (float): The lowest score that is kept.

    Returns:
        list: A Difference an image. ``absolute`` is in pixels of the boxes,
        ``relative`` the larger one of the boxes' (to the box's largest
        coordinate) and the scores'. Infinite where a detection of one is not
        among the other's.
    """
    return [
        difference_of_image(one, other, score_threshold)
        for one, other in zip(zip(*expected), zip(*found))
    ]


def difference_of_image(expected: Sequence[Tensor], found: Sequence[Tensor],
                        score_threshold: float) -> Difference:
    """:func:`detection_differences` of one image."""
    cut = score_threshold
    sides = []
    for boxes, scores, labels in (expected, found):
        real = labels >= 0
        if real.all():
            cut = max(cut, scores.min().item())
        sides.append((boxes[real], scores[real], labels[real]))
    absolute, relative, compared = 0., 0., 0
    for one, (boxes, scores, labels) in (sides, sides[::-1]):
        sure = one[1] > cut + NEAR_CUT
        number = int(sure.sum())
        if not number:
            continue
        if not len(boxes):
            return Difference(math.inf, math.inf, number)
        own = one[0][sure].clamp(-FARTHEST, FARTHEST)
        pixels = torch.cdist(own, boxes.clamp(-FARTHEST, FARTHEST), p=math.inf)
        distances = torch.maximum(
            pixels / own.abs().amax(1, keepdim=True).clamp(min=1.),
            (one[1][sure].unsqueeze(1) - scores).abs())
        distances[one[2][sure].unsqueeze(1) != labels] = math.inf
        nearest, index = distances.min(1)
        relative = max(relative, nearest.max().item())
        absolute = max(absolute,
                       pixels.gather(1, index.unsqueeze(1)).max().item())
        compared = max(compared, number)
    if math.isinf(relative):
        absolute = math.inf
    return Difference(absolute, relative, compared)
