"""A whole Faster R-CNN as one graph of fixed-size steps.

It does what MMDetection's ``predict`` does, in terms that can be traced with
any batch size, height and width: where MMDetection has as many boxes as there
are, here are the most that there can be, and those that are none have a score
below zero.
"""
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.ops import RoIAlign
from mmdet.models.dense_heads import RPNHead
from mmdet.models.detectors import FasterRCNN, TwoStageDetector
from mmdet.models.roi_heads import SingleRoIExtractor, StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from .judge import Difference
from .operators import padded_nms, roi_align

NOTHING = -1.  # score of what is no box
# Detections whose score is so near to the lowest that is kept may be there or
# not: rounding decides.
NEAR_CUT = 1e-3
# MMDetection's default of DeltaXYWHBBoxCoder.decode
MAX_LOG_RATIO = abs(math.log(16 / 1000))


def check_kind(name: str, part, *kinds: type) -> None:
    """Raises:
        ValueError: If a part of a detector is not exactly of these kinds.
    """
    if type(part) not in kinds:
        raise ValueError(
            f'{name} {type(part).__name__} cannot be exported with the whole '
            'detector: only ' + ' or '.join(kind.__name__ for kind in kinds) +
            '. Its backbone can be exported alone')


def check_setting(ok: bool, name: str, value, allowed: str) -> None:
    """Raises:
        ValueError: If a setting of a detector is not ``allowed``.
    """
    if not ok:
        raise ValueError(
            f'{name}={value!r} cannot be exported with the whole detector: '
            f'only {allowed}. Its backbone can be exported alone')


def check_nms(name: str, cfg: dict) -> None:
    """Raises:
        ValueError: If an NMS is not the plain one.
    """
    check_setting(
        cfg.get('type') == 'nms'
        and set(cfg) <= {'type', 'iou_threshold', 'split_thr'}, name,
        dict(cfg), "dict(type='nms', iou_threshold=...)")


def check_coder(name: str, coder) -> None:
    """Raises:
        ValueError: If boxes are coded in a way that is not built here.
    """
    check_kind(name, coder, DeltaXYWHBBoxCoder)
    check_setting(coder.clip_border and not coder.add_ctr_clamp, name,
                  (coder.clip_border, coder.add_ctr_clamp),
                  'clip_border=True, add_ctr_clamp=False')


def check_detector(model: nn.Module) -> None:
    """Check that :class:`DetectorGraph` does what a detector does.

    Raises:
        ValueError: If not; says which part of it is another.
    """
    check_kind('detector', model, FasterRCNN, TwoStageDetector)
    rpn, roi_head = model.rpn_head, model.roi_head
    check_kind('rpn_head', rpn, RPNHead)
    check_kind('anchor_generator', rpn.prior_generator, AnchorGenerator)
    check_coder('rpn_head.bbox_coder', rpn.bbox_coder)
    check_setting(rpn.use_sigmoid_cls, 'rpn_head.loss_cls.use_sigmoid', False,
                  'True')
    check_setting(rpn.test_cfg.nms_pre > 0, 'test_cfg.rpn.nms_pre',
                  rpn.test_cfg.nms_pre, 'a number > 0')
    check_nms('test_cfg.rpn.nms', rpn.test_cfg.nms)
    check_kind('roi_head', roi_head, StandardRoIHead)
    check_setting(not roi_head.with_mask and not roi_head.with_shared_head,
                  'mask_head or shared_head', True, 'a roi_head without them')
    extractor, head = roi_head.bbox_roi_extractor, roi_head.bbox_head
    check_kind('bbox_roi_extractor', extractor, SingleRoIExtractor)
    for layer in extractor.roi_layers:
        check_kind('roi_layer', layer, RoIAlign)
        check_setting(layer.pool_mode == 'avg', 'roi_layer.pool_mode',
                      layer.pool_mode, "'avg'")
    check_setting(
        isinstance(head, ConvFCBBoxHead) and head.with_reg
        and not head.custom_cls_channels, 'bbox_head',
        type(head).__name__, 'a ConvFCBBoxHead with softmax and boxes')
    check_coder('bbox_head.bbox_coder', head.bbox_coder)
    check_nms('test_cfg.rcnn.nms', roi_head.test_cfg.nms)


def pad_images(images: Tensor, divisor: int) -> Tensor:
    """Zeros at right and bottom, as MMDetection's preprocessor puts them."""
    height, width = images.shape[2:]
    return F.pad(images, (0, -width % divisor, 0, -height % divisor))


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
    first, last = centres - sizes * 0.5, centres + sizes * 0.5
    return torch.stack([
        first[..., 0].clamp(0, width), first[..., 1].clamp(0, height),
        last[..., 0].clamp(0, width), last[..., 1].clamp(0, height)
    ], -1)


def take(values: Tensor, indices: Tensor) -> Tensor:
    """(N, K, 4) and (N, P) -> (N, P, 4)."""
    return values.gather(1, indices.unsqueeze(2).expand(-1, -1, 4))


def nms_of_groups(boxes: Tensor, scores: Tensor, groups: Tensor,
                  iou_threshold: float, score_threshold: float,
                  max_boxes: int) -> Tensor:
    """:func:`padded_nms` where boxes of different groups do not meet, moved
    apart as mmcv's ``batched_nms`` does.

    Args:
        boxes (Tensor): (N, K, 4), from 0 on.
        scores (Tensor): (N, K).
        groups (Tensor): (K, ), from 0 on.
    """
    valid = (scores > score_threshold).unsqueeze(2)
    farthest = torch.where(valid, boxes, 0).amax((1, 2)).view(-1, 1, 1)
    offsets = groups.to(boxes.dtype).view(1, -1, 1) * (farthest + 1)
    return padded_nms(boxes + offsets, scores, iou_threshold, score_threshold,
                      max_boxes)


class DetectorGraph(nn.Module):
    """MMDetection's Faster R-CNN, from images to detections.

    Args:
        model (TwoStageDetector): In eval mode.

    Shape: normalised images (N, 3, H, W) -> boxes (N, M, 4), x1, y1, x2, y2
    in pixels of the images; scores (N, M), falling; labels (N, M), int64.
    M is ``test_cfg.rcnn.max_per_img``; where fewer were found, the others
    have label -1, score 0 and box 0. All of an image is taken to be picture:
    the padding that the network needs is added inside.

    Raises:
        ValueError: If the detector has a part that is not built here.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        check_detector(model)
        self.model = model
        self.size_divisor = size_divisor_of(model)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        height, width = images.shape[2:]
        maps = self.model.extract_feat(pad_images(images, self.size_divisor))
        proposals, found = self.propose(maps, height, width)
        return self.detect(maps, proposals, found, height, width)

    def propose(self, maps: Sequence[Tensor], height: int,
                width: int) -> tuple[Tensor, Tensor]:
        """The RPN: proposals (N, P, 4), and which of them are any (N, P)."""
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
        least = cfg.get('min_bbox_size', -1)
        if least >= 0:
            wide = (boxes[..., 2:] - boxes[..., :2] > least).all(2)
            scores = torch.where(wide, scores, NOTHING)
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
            # boxes of other levels without extent: they cost no samples
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
                             cfg.score_thr, cfg.max_per_img)
        found, index = kept >= 0, kept.clamp(min=0)
        return (torch.where(found.unsqueeze(2), take(boxes, index), 0),
                torch.where(found, scores.gather(1, index), 0),
                torch.where(found, index % classes, -1))


def size_divisor_of(model: nn.Module) -> int:
    """What a model's preprocessor pads height and width to a multiple of."""
    return getattr(model.data_preprocessor, 'pad_size_divisor', 1)


class PaddedBackbone(nn.Module):
    """A detector's backbone, with images as :class:`Predictions` gets them.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.divisor = size_divisor_of(model)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.backbone(pad_images(images, self.divisor))


class Predictions(nn.Module):
    """MMDetection's own ``predict``, with :class:`DetectorGraph`'s outputs.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        padded = pad_images(images, size_divisor_of(self.model))
        samples = [
            DetDataSample(
                metainfo=dict(
                    img_shape=tuple(images.shape[2:]),
                    ori_shape=tuple(images.shape[2:]),
                    pad_shape=tuple(padded.shape[2:]),
                    batch_input_shape=tuple(padded.shape[2:]),
                    scale_factor=(1., 1.))) for _ in images
        ]
        number = self.model.roi_head.test_cfg.max_per_img
        boxes = images.new_zeros(len(images), number, 4)
        scores = images.new_zeros(len(images), number)
        labels = images.new_full((len(images), number), -1, dtype=torch.long)
        for i, sample in enumerate(
                self.model.predict(padded, samples, rescale=False)):
            found = sample.pred_instances
            boxes[i, :len(found)] = found.bboxes
            scores[i, :len(found)] = found.scores
            labels[i, :len(found)] = found.labels
        return boxes, scores, labels


def detection_differences(expected: Sequence[Tensor],
                          found: Sequence[Tensor],
                          score_threshold: float) -> list[Difference]:
    """How far each detection is from the nearest one of its class among the
    others; their order does not matter, as rounding decides it.

    Args:
        expected (Sequence[Tensor]): Boxes, scores and labels, as of
            :class:`DetectorGraph`.
        found (Sequence[Tensor]): The same.
        score_threshold (float): The lowest score that is kept.

    Returns:
        list: A Difference an image. ``absolute`` is in pixels of the boxes,
        ``relative`` the larger one of the boxes' (to the largest coordinate)
        and the scores'. Infinite where a detection of one is not among the
        other's.
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
        pixels = torch.cdist(one[0][sure], boxes, p=math.inf)
        distances = torch.maximum(
            pixels / one[0].max(),
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
