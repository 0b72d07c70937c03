"""A backbone with the head of an image classifier."""
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..layers.common import GlobalMean, check, is_int


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """Backbone, global mean pooling, one fully connected layer.

    A detector's backbone loads its checkpoint by ``init_cfg=dict(
    type='Pretrained', checkpoint=FILE, prefix='backbone.')``.

    Args:
        backbone (dict): Config of a backbone; its last output is classified.
        num_classes (int): Number of classes.
        in_channels (int): Width of the backbone's last output. Defaults to
            its ``feat_dim``, which MMDetection's ResNets have.
        label_smoothing (float): Share of the target that is spread over all
            classes, from 0 to below 1. Defaults to 0.
        data_preprocessor (dict): Config, e.g. of ``ImgDataPreprocessor``.
        init_cfg (dict): See ``mmengine.model.BaseModule``.

    Shape: (N, 3, H, W) -> scores (N, num_classes), before the softmax.

    Raises:
        ValueError: For an option out of its range, or a backbone that does
            not tell its width.
    """

    def __init__(self,
                 backbone: dict,
                 num_classes: int,
                 in_channels: int | None = None,
                 label_smoothing: float = 0.,
                 data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor, init_cfg)
        check(
            is_int(num_classes, 1), 'num_classes', num_classes, 'an int >= 1')
        check(
            isinstance(label_smoothing, (int, float))
            and 0 <= label_smoothing < 1, 'label_smoothing', label_smoothing,
            'a number from 0 to below 1')
        self.backbone = MODELS.build(backbone)
        if in_channels is None:
            in_channels = getattr(self.backbone, 'feat_dim', None)
        check(
            is_int(in_channels, 1), 'in_channels', in_channels,
            f'an int >= 1; backbone type={backbone["type"]!r} has no '
            "'feat_dim', a ResNet's width for the fc")
        self.mean = GlobalMean()
        self.fc = nn.Linear(in_channels, num_classes)
        self.label_smoothing = label_smoothing

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[BaseDataElement] | None = None,
        mode: str = 'tensor'
    ) -> Tensor | dict[str, Tensor] | list[BaseDataElement]:
        """MMEngine's interface.

        Args:
            inputs (Tensor): A batch of images, (N, 3, H, W).
            data_samples (list): With ``gt_label``, for 'loss'; 'predict' adds
                ``pred_scores`` (num_classes) and ``pred_label`` to them.
            mode (str): 'tensor', 'loss' or 'predict'.

        Raises:
            ValueError: For another mode.
        """
        check(mode in ('tensor', 'loss', 'predict'), 'mode', mode,
              "'tensor', 'loss' or 'predict'")
        logits = self.fc(self.mean(self.backbone(inputs)[-1]).flatten(1))
        if mode == 'tensor':
            return logits
        if mode == 'loss':
            labels = torch.stack([sample.gt_label for sample in data_samples])
            return dict(
                loss=F.cross_entropy(
                    logits, labels, label_smoothing=self.label_smoothing))
        scores = logits.softmax(1, dtype=torch.float32)
        if data_samples is None:
            data_samples = [BaseDataElement() for _ in scores]
        for sample, sample_scores, label in zip(data_samples, scores,
                                                scores.argmax(1)):
            sample.pred_scores = sample_scores
            sample.pred_label = label
        return data_samples
