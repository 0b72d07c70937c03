"""A whole Faster R-CNN as one graph of fixed-size steps (:mod:`.boxes`).

It does the same as MMDetection's ``predict``, in operations that can be traced
with any batch size, height and width.
"""
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from torch import Tensor, nn

from .boxes import (
    NOTHING,
    detections,
    drop_narrow,
    nms_of_groups,
    take,
    within,
)
from .operators import roi_align
from .reference import max_detections, pad_images, size_divisor_of
from .supported import check_faster_rcnn

# MMDetection's default of DeltaXYWHBBoxCoder.decode
MAX_LOG_RATIO = abs(math.log(16 / 1000))


def decode(coder: DeltaXYWHBBoxCoder, boxes: Tensor, deltas: Tensor,
           height: int, width: int) -> Tensor:
    """``coder.decode``, for any leading dimensions: boxes and deltas
    (..., 4) to boxes (..., 4) within the image."""
    deltas = deltas * deltas.new_tensor(coder.stds) + deltas.new_tensor(
        coder.means)
    sizes = boxes[..., 2:] - boxes[..., :2]
    centres = (boxes[..., :2] + boxes[..., 2:]) * 0.5 \
        + sizes * deltas[..., :2]
    sizes = sizes * deltas[..., 2:].clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    return within(centres - sizes * 0.5, centres + sizes * 0.5, height, width)


class FasterRCNNGraph(nn.Module):
    """MMDetection's Faster R-CNN, from images to detections.

    Args:
        model (TwoStageDetector): In eval mode.

    Shape: normalised images (N, 3, H, W) -> boxes (N, M, 4), x1, y1, x2, y2 in
    pixels of the images; scores (N, M), falling; labels (N, M), int64. M is
    ``test_cfg.rcnn.max_per_img``; where fewer were found, the others have
    label -1, score 0 and box 0. The whole image is used: the padding that the
    network needs is added inside.

    Raises:
        ValueError: If the detector has a part that is not built here.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        check_faster_rcnn(model)
        self.model = model
        self.size_divisor = size_divisor_of(model)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        height, width = images.shape[2:]
        maps = self.model.extract_feat(pad_images(images, self.size_divisor))
        proposals, found = self.propose(maps, height, width)
        return self.detect(maps, proposals, found, height, width)

    def propose(self, maps: Sequence[Tensor], height: int,
                width: int) -> tuple[Tensor, Tensor]:
        """The RPN: proposals (N, P, 4), and which of them are valid (N, P)."""
        head = self.model.rpn_head
        cfg = head.test_cfg
        number = cfg.nms_pre
        score_maps, delta_maps = head(maps)
        anchors = head.prior_generator.grid_priors(
            [scores.shape[2:] for scores in score_maps],
            dtype=score_maps[0].dtype,
            device=score_maps[0].device)
        images = maps[0].shape[0]
        boxes, scores = [], []
        for level_scores, deltas, priors in zip(score_maps, delta_maps,
                                                anchors):
            level_scores = level_scores.permute(0, 2, 3, 1).flatten(1)
            deltas = deltas.permute(0, 2, 3, 1).reshape(images, -1, 4)
            # enough for topk, whatever the size of the map
            level_scores = F.pad(level_scores.sigmoid(), (0, number),
                                 value=NOTHING)
            deltas = F.pad(deltas, (0, 0, 0, number))
            priors = F.pad(priors, (0, 0, 0, number))
            level_scores, best = level_scores.topk(number)
            scores.append(level_scores)
            boxes.append(
                decode(head.bbox_coder, priors[best], take(deltas, best),
                       height, width))
        levels = torch.arange(len(boxes), device=boxes[0].device)
        boxes, scores = torch.cat(boxes, 1), torch.cat(scores, 1)
        scores = drop_narrow(boxes, scores, cfg.get('min_bbox_size', -1))
        kept = nms_of_groups(boxes, scores, levels.repeat_interleave(number),
                             cfg.nms.iou_threshold, NOTHING / 2,
                             cfg.max_per_img)
        found = kept >= 0
        proposals = take(boxes, kept.clamp(min=0))
        return torch.where(found.unsqueeze(2), proposals, 0), found

    def pool(self, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        """The RoI extractor: rois (R, 5) -> (R, C, height, width)."""
        extractor = self.model.roi_head.bbox_roi_extractor
        maps = maps[:extractor.num_inputs]
        levels = extractor.map_roi_levels(rois, len(maps))
        features = 0
        for i, (layer, level) in enumerate(zip(extractor.roi_layers, maps)):
            here = (levels == i).unsqueeze(1)
            # boxes of other levels get no extent, so that no samples are
            # computed
            boxes = torch.where(here, rois[:, 1:], 0)
            pooled = roi_align(level, torch.cat([rois[:, :1], boxes], 1),
                               list(layer.output_size), layer.spatial_scale,
                               layer.sampling_ratio, layer.aligned)
            features = features + torch.where(here[..., None, None], pooled,
                                              0)
        return features

    def detect(self, maps: Sequence[Tensor], proposals: Tensor, found: Tensor,
               height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """The R-CNN head and the last NMS; see the class."""
        head, cfg = self.model.roi_head.bbox_head, self.model.roi_head.test_cfg
        images, number = found.shape
        classes = head.num_classes
        image = torch.arange(images, device=found.device).to(proposals.dtype)
        rois = torch.cat([
            image.view(-1, 1, 1).expand(-1, number, 1), proposals
        ], 2).flatten(0, 1)
        scores, deltas = head(self.pool(maps, rois))
        scores = scores.softmax(1)[:, :-1].unflatten(0, (images, number))
        scores = torch.where(found.unsqueeze(2), scores, NOTHING).flatten(1)
        deltas = deltas.view(images, number, -1, 4)
        boxes = decode(head.bbox_coder, proposals.unsqueeze(2), deltas, height,
                       width)
        boxes = boxes.expand(-1, -1, classes, -1).flatten(1, 2)
        labels = torch.arange(classes, device=found.device).repeat(number)
        kept = nms_of_groups(boxes, scores, labels, cfg.nms.iou_threshold,
                             cfg.score_thr, max_detections(self.model))
        return detections(boxes, scores, labels.expand(images, -1), kept)
