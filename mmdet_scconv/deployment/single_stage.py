"""RTMDet and YOLOX as one graph of fixed-size steps (:mod:`.boxes`)."""
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .boxes import (
    NOTHING,
    detections,
    drop_narrow,
    nms_of_groups,
    take,
    within,
)
from .reference import max_detections, pad_images, size_divisor_of
from .supported import check_rtmdet, check_yolox


def flat(level: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H * W, C)."""
    return level.permute(0, 2, 3, 1).flatten(1, 2)


class SingleStageGraph(nn.Module, ABC):
    """MMDetection's single-stage detector, from images to detections.

    Args:
        model (SingleStageDetector): In eval mode.

    Shape: as of :class:`.two_stage.FasterRCNNGraph`; M is
    ``test_cfg.max_per_img``, or 300 where that is not set. Height and width
    are padded to multiples of the head's largest stride.

    Raises:
        ValueError: If the detector has a part that is not built here.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.size_divisor = size_divisor_of(model)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        height, width = images.shape[2:]
        head = self.model.bbox_head
        outputs = head(
            self.model.extract_feat(pad_images(images, self.size_divisor)))
        priors = head.prior_generator.grid_priors(
            [scores.shape[2:] for scores in outputs[0]],
            dtype=outputs[0][0].dtype,
            device=outputs[0][0].device,
            with_stride=True)
        boxes, scores, labels = self.candidates(outputs, priors, height, width)
        cfg = head.test_cfg
        kept = nms_of_groups(boxes, scores, labels, cfg.nms.iou_threshold,
                             cfg.score_thr, max_detections(self.model))
        return detections(boxes, scores, labels, kept)

    @abstractmethod
    def candidates(self, outputs: Sequence[Sequence[Tensor]],
                   priors: Sequence[Tensor], height: int,
                   width: int) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes before the NMS.

        Args:
            outputs (Sequence): What the head returns, each by level.
            priors (Sequence): x, y and both strides, (P, 4), by level.
            height (int), width (int): Of the images, in pixels.

        Returns:
            tuple: Boxes (N, K, 4), scores (N, K) and labels (N, K).
        """


class RTMDetGraph(SingleStageGraph):
    """RTMDet: the best pairs of place and class of each level."""

    def __init__(self, model: nn.Module) -> None:
        check_rtmdet(model)
        super().__init__(model)

    def candidates(self, outputs, priors, height, width):
        cfg = self.model.bbox_head.test_cfg
        number = cfg.nms_pre
        boxes, scores, labels = [], [], []
        for level_scores, distances, points in zip(*outputs, priors):
            classes = level_scores.shape[1]
            # enough for topk, whatever the size of the map
            level_scores = F.pad(
                flat(level_scores).sigmoid().flatten(1), (0, number),
                value=NOTHING)
            points = F.pad(points, (0, 0, 0, number))
            distances = F.pad(flat(distances), (0, 0, 0, number))
            level_scores, best = level_scores.topk(number)
            place = best // classes
            boxes.append(
                self.decode(points[place], take(distances, place), height,
                            width))
            scores.append(level_scores)
            labels.append(best % classes)
        boxes, scores = torch.cat(boxes, 1), torch.cat(scores, 1)
        return (boxes,
                drop_narrow(boxes, scores, cfg.get('min_bbox_size', -1)),
                torch.cat(labels, 1))

    @staticmethod
    def decode(points: Tensor, distances: Tensor, height: int,
               width: int) -> Tensor:
        """DistancePointBBoxCoder's ``decode``: points (..., 4) and distances
        (..., 4), left, top, right and bottom, to boxes (..., 4) within the
        image."""
        return within(points[..., :2] - distances[..., :2],
                      points[..., :2] + distances[..., 2:], height, width)


class YOLOXGraph(SingleStageGraph):
    """YOLOX: the best class of each place."""

    def __init__(self, model: nn.Module) -> None:
        check_yolox(model)
        super().__init__(model)

    def candidates(self, outputs, priors, height, width):
        scores, deltas, objectness = (
            torch.cat([flat(level) for level in levels], 1)
            for levels in outputs)
        boxes = self.model.bbox_head._bbox_decode(torch.cat(priors), deltas)
        scores, labels = scores.sigmoid().max(2)
        return boxes, scores * objectness.sigmoid().squeeze(2), labels
