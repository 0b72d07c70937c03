"""The reference of an exported file: MMDetection's own code."""
import math

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import RTMDetHead, YOLOXHead
from mmdet.models.detectors import SingleStageDetector
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from torch import Tensor, nn


def pad_images(images: Tensor, divisor: int) -> Tensor:
    """Pad with zeros at right and bottom, as MMDetection's preprocessor does.
    """
    height, width = images.shape[2:]
    return F.pad(images, (0, -width % divisor, 0, -height % divisor))


def size_divisor_of(model: nn.Module) -> int:
    """The number to whose multiples height and width are padded: the
    preprocessor's. RTMDet and YOLOX need multiples of their strides, which
    their pipelines make."""
    divisor = getattr(model.data_preprocessor, 'pad_size_divisor', 1)
    if isinstance(getattr(model, 'bbox_head', None), (RTMDetHead, YOLOXHead)):
        strides = model.bbox_head.prior_generator.strides
        divisor = math.lcm(divisor, *(side for s in strides for side in s))
    return divisor


def test_cfg_of(model: nn.Module) -> ConfigDict:
    """``test_cfg`` of the head that makes a detector's detections."""
    head = (model.bbox_head if isinstance(model, SingleStageDetector) else
            model.roi_head)
    return head.test_cfg


def max_detections(model: nn.Module) -> int:
    """How many detections of an image are kept. YOLOX's ``test_cfg`` has no
    such limit; it gets the one of RTMDet."""
    return test_cfg_of(model).get('max_per_img', 300)


class PaddedBackbone(nn.Module):
    """A detector's backbone, called with the same images as
    :class:`Predictions`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.divisor = size_divisor_of(model)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.backbone(pad_images(images, self.divisor))


class Predictions(nn.Module):
    """MMDetection's own ``predict``, with the outputs of
    :class:`.two_stage.FasterRCNNGraph`."""

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
        number = max_detections(self.model)
        boxes = images.new_zeros(len(images), number, 4)
        scores = images.new_zeros(len(images), number)
        labels = images.new_full((len(images), number), -1, dtype=torch.long)
        for i, sample in enumerate(
                self.model.predict(padded, samples, rescale=False)):
            found = sample.pred_instances[:number]
            boxes[i, :len(found)] = found.bboxes
            scores[i, :len(found)] = found.scores
            labels[i, :len(found)] = found.labels
        return boxes, scores, labels
