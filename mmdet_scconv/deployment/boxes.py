"""Steps of fixed size that whole detectors share.

MMDetection has as many boxes as were found. Here there is always the largest
possible number, and boxes that are not a detection have a score below zero.
"""
import torch
from torch import Tensor

from .operators import padded_nms

NOTHING = -1.  # score of a box that is not a detection


def take(values: Tensor, indices: Tensor) -> Tensor:
    """(N, K, 4) and (N, P) -> (N, P, 4)."""
    return values.gather(1, indices.unsqueeze(2).expand(-1, -1, 4))


def within(first: Tensor, last: Tensor, height: int, width: int) -> Tensor:
    """Boxes (..., 4) from their corners (..., 2), cut at the image's border.
    """
    return torch.stack([
        first[..., 0].clamp(0, width), first[..., 1].clamp(0, height),
        last[..., 0].clamp(0, width), last[..., 1].clamp(0, height)
    ], -1)


def drop_narrow(boxes: Tensor, scores: Tensor, least: float) -> Tensor:
    """``scores`` (N, K), with ``NOTHING`` for boxes (N, K, 4) whose width or
    height is not above ``least`` pixels; all, if that is below 0."""
    if least < 0:
        return scores
    wide = (boxes[..., 2:] - boxes[..., :2] > least).all(2)
    return torch.where(wide, scores, NOTHING)


def nms_of_groups(boxes: Tensor, scores: Tensor, groups: Tensor,
                  iou_threshold: float, score_threshold: float,
                  max_boxes: int) -> Tensor:
    """:func:`padded_nms` where boxes of different groups do not meet, moved
    apart as mmcv's ``batched_nms`` does.

    Args:
        boxes (Tensor): (N, K, 4).
        scores (Tensor): (N, K).
        groups (Tensor): (K, ) or (N, K), from 0 on.
    """
    valid = (scores > score_threshold).unsqueeze(2)
    farthest = torch.where(valid, boxes, 0).amax((1, 2)).view(-1, 1, 1)
    offsets = groups.to(boxes.dtype).unsqueeze(-1) * (farthest + 1)
    return padded_nms(boxes + offsets, scores, iou_threshold, score_threshold,
                      max_boxes)


def detections(boxes: Tensor, scores: Tensor, labels: Tensor,
               kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A detector's outputs from its candidates and the NMS.

    Args:
        boxes (Tensor): (N, K, 4).
        scores (Tensor): (N, K).
        labels (Tensor): (N, K), int64.
        kept (Tensor): (N, M), indices, or -1; of :func:`nms_of_groups`.

    Returns:
        tuple: Boxes (N, M, 4), scores (N, M) and labels (N, M). Box 0, score 0
        and label -1 where nothing was kept.
    """
    found, index = kept >= 0, kept.clamp(min=0)
    return (torch.where(found.unsqueeze(2), take(boxes, index), 0),
            torch.where(found, scores.gather(1, index), 0),
            torch.where(found, labels.gather(1, index), -1))
