"""The reference of an exported file: MMDetection's own code."""
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from torch import Tensor, nn


def pad_images(images: Tensor, divisor: int) -> Tensor:
    """Pad with zeros at right and bottom, as MMDetection's preprocessor does.
    """
    height, width = images.shape[2:]
    return F.pad(images, (0, -width % divisor, 0, -height % divisor))


def size_divisor_of(model: nn.Module) -> int:
    """The number to whose multiples a model's preprocessor pads height and
    width."""
    return getattr(model.data_preprocessor, 'pad_size_divisor', 1)


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
    :class:`.detector.DetectorGraph`."""

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
