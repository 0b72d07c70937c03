"""NMS and RoIAlign as operators that torch.export and ONNX know.

In PyTorch they call mmcv's; in ONNX they are NonMaxSuppression and RoiAlign of
the standard opset. A .pt2 with them needs this module imported to be loaded.
"""
import torch
from mmcv import ops
from torch import Tensor


@torch.library.custom_op('mmdet_scconv::padded_nms', mutates_args=())
def padded_nms(boxes: Tensor, scores: Tensor, iou_threshold: float,
               score_threshold: float, max_boxes: int) -> Tensor:
    """NMS of each image, with a result of fixed size.

    Args:
        boxes (Tensor): (N, K, 4), x1, y1, x2, y2.
        scores (Tensor): (N, K).
        iou_threshold (float): Of two boxes with a higher IoU the one with the
            lower score is dropped.
        score_threshold (float): Scores must be above it.
        max_boxes (int): How many boxes of each image are kept.

    Returns:
        Tensor: (N, max_boxes), indices by falling score, then -1.
    """
    kept = scores.new_full((len(boxes), max_boxes), -1, dtype=torch.int64)
    for row, image_boxes, image_scores in zip(kept, boxes, scores):
        valid = (image_scores > score_threshold).nonzero().squeeze(1)
        if len(valid):
            _, best = ops.nms(image_boxes[valid], image_scores[valid],
                              iou_threshold)
            best = valid[best[:max_boxes]]
            row[:len(best)] = best
    return kept


@padded_nms.register_fake
def _(boxes, scores, iou_threshold, score_threshold, max_boxes):
    return scores.new_empty((boxes.shape[0], max_boxes), dtype=torch.int64)


@torch.library.custom_op('mmdet_scconv::roi_align', mutates_args=())
def roi_align(maps: Tensor, rois: Tensor, size: list[int], scale: float,
              sampling_ratio: int, aligned: bool) -> Tensor:
    """mmcv's RoIAlign with average pooling: maps (N, C, H, W) and rois
    (R, 5), image and box, to (R, C, *size)."""
    return ops.roi_align(maps.contiguous(), rois, tuple(size), scale,
                         sampling_ratio, 'avg', aligned)


@roi_align.register_fake
def _(maps, rois, size, scale, sampling_ratio, aligned):
    return maps.new_empty((rois.shape[0], maps.shape[1], *size))


def onnx_translations() -> dict:
    """The operators' translations to ONNX, for ``torch.onnx.export``."""
    from onnxscript import opset18 as op

    def ints(*values: int):
        return op.Constant(value_ints=list(values))

    def onnx_nms(boxes, scores, iou_threshold: float, score_threshold: float,
                 max_boxes: int):
        # rows of (image, class, box), image by image, by falling score
        chosen = op.NonMaxSuppression(
            boxes, op.Unsqueeze(scores, ints(1)), ints(max_boxes),
            op.Constant(value_floats=[iou_threshold]),
            op.Constant(value_floats=[score_threshold]))
        zero, one = (op.Constant(value_int=i) for i in (0, 1))
        image = op.Gather(chosen, zero, axis=1)
        box = op.Gather(chosen, op.Constant(value_int=2), axis=1)
        images = op.Shape(boxes, start=0, end=1)
        rows = op.Range(zero, op.Squeeze(op.Shape(chosen, start=0, end=1)),
                        one)
        # the row of each image's first box, hence the column of each box
        of_image = op.Equal(
            op.Unsqueeze(image, ints(1)),
            op.Unsqueeze(op.Range(zero, op.Squeeze(images), one), ints(0)))
        counts = op.ReduceSum(op.Cast(of_image, to=7), ints(0), keepdims=0)
        first = op.CumSum(counts, zero, exclusive=1)
        column = op.Sub(rows, op.Gather(first, image))
        empty = op.Expand(
            op.Constant(value_int=-1),
            op.Concat(images, ints(max_boxes), axis=0))
        cells = op.Concat(
            op.Unsqueeze(image, ints(1)), op.Unsqueeze(column, ints(1)),
            axis=1)
        return op.ScatterND(empty, cells, box)

    def onnx_roi_align(maps, rois, size: list[int], scale: float,
                       sampling_ratio: int, aligned: bool):
        return op.RoiAlign(
            maps,
            op.Slice(rois, ints(1), ints(5), ints(1)),
            op.Cast(op.Gather(rois, op.Constant(value_int=0), axis=1), to=7),
            coordinate_transformation_mode='half_pixel'
            if aligned else 'output_half_pixel',
            mode='avg',
            output_height=size[0],
            output_width=size[1],
            sampling_ratio=sampling_ratio,
            spatial_scale=scale)

    return {
        torch.ops.mmdet_scconv.padded_nms.default: onnx_nms,
        torch.ops.mmdet_scconv.roi_align.default: onnx_roi_align,
    }
