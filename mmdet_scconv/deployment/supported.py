"""Checks which detectors can be exported as a whole."""
from mmcv.ops import RoIAlign
from mmdet.models.dense_heads import (
    RPNHead,
    RTMDetHead,
    RTMDetSepBNHead,
    YOLOXHead,
)
from mmdet.models.detectors import (
    YOLOX,
    FasterRCNN,
    RTMDet,
    SingleStageDetector,
    TwoStageDetector,
)
from mmdet.models.roi_heads import SingleRoIExtractor, StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from mmdet.models.task_modules.coders import (
    DeltaXYWHBBoxCoder,
    DistancePointBBoxCoder,
)
from mmdet.models.task_modules.prior_generators import (
    AnchorGenerator,
    MlvlPointGenerator,
)
from torch import nn

from ..backbones.swapped_module import SwappedModule


def check_kind(name: str, part, *kinds: type) -> None:
    """Raises:
        ValueError: If a part of a detector is not exactly of one of these
            classes, before a swap of convolutions in it.
    """
    kind = part.dense_class if isinstance(part, SwappedModule) else type(part)
    if kind not in kinds:
        raise ValueError(
            f'{name} {kind.__name__} cannot be exported with the whole '
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
        ValueError: If boxes are coded in a way that is not supported here.
    """
    check_kind(name, coder, DeltaXYWHBBoxCoder)
    check_setting(coder.clip_border and not coder.add_ctr_clamp, name,
                  (coder.clip_border, coder.add_ctr_clamp),
                  'clip_border=True, add_ctr_clamp=False')


def check_faster_rcnn(model: nn.Module) -> None:
    """Check that :class:`.two_stage.FasterRCNNGraph` does the same as a
    detector.

    Raises:
        ValueError: If not; names the part that differs.
    """
    check_kind('detector', model, FasterRCNN, TwoStageDetector, RTMDet, YOLOX,
               SingleStageDetector)
    check_setting(isinstance(model, TwoStageDetector), 'bbox_head',
                  type(getattr(model, 'bbox_head', None)).__name__,
                  'RTMDetHead, RTMDetSepBNHead or YOLOXHead')
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


def check_single_stage(model: nn.Module, *heads: type) -> None:
    """Check the parts that RTMDet and YOLOX have in common.

    Raises:
        ValueError: If one of them is not supported; names it.
    """
    check_kind('detector', model, RTMDet, YOLOX, SingleStageDetector)
    head = model.bbox_head
    check_kind('bbox_head', head, *heads)
    check_kind('prior_generator', head.prior_generator, MlvlPointGenerator)
    check_setting(head.use_sigmoid_cls, 'bbox_head.loss_cls.use_sigmoid',
                  False, 'True')
    check_nms('test_cfg.nms', head.test_cfg.nms)


def check_rtmdet(model: nn.Module) -> None:
    """Check that :class:`.single_stage.RTMDetGraph` does the same as a
    detector.

    Raises:
        ValueError: If not; names the part that differs.
    """
    check_single_stage(model, RTMDetHead, RTMDetSepBNHead)
    head = model.bbox_head
    check_kind('bbox_coder', head.bbox_coder, DistancePointBBoxCoder)
    check_setting(head.bbox_coder.clip_border, 'bbox_coder.clip_border', False,
                  'True')
    nms_pre = head.test_cfg.get('nms_pre', -1)
    check_setting(nms_pre > 0, 'test_cfg.nms_pre', nms_pre, 'a number > 0')


def check_yolox(model: nn.Module) -> None:
    """Check that :class:`.single_stage.YOLOXGraph` does the same as a
    detector.

    Raises:
        ValueError: If not; names the part that differs.
    """
    check_single_stage(model, YOLOXHead)
