"""The models of configs that a benchmark measures.

A model is built as its config says: a training step has the config's frozen
stages and BatchNorm mode, unless the case asks for another regime. Weights are
random, and SyncBatchNorm, which needs several processes, is BatchNorm.
"""
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..backbones.deploy import deploy_parts, deployable_parts
from ..paper.complexity import without_checkpoint
from .cases import Case
from .textbook import switch_to_textbook


def detector_inputs(case: Case) -> tuple[Tensor, list[DetDataSample]]:
    """Random images with four boxes each."""
    height, width = case.shape
    x = torch.randn(case.batch, 3, height, width, device=case.device)
    samples = []
    for _ in range(case.batch):
        corner = torch.rand(4, 2) * 0.5
        boxes = torch.cat([corner, corner + 0.1 + 0.4 * torch.rand(4, 2)], 1)
        sample = DetDataSample(metainfo=dict(
            img_shape=case.shape, ori_shape=case.shape, pad_shape=case.shape,
            batch_input_shape=case.shape, scale_factor=(1., 1.)))
        sample.gt_instances = InstanceData(
            bboxes=boxes * torch.tensor([width, height] * 2),
            labels=torch.zeros(4, dtype=torch.long)).to(case.device)
        samples.append(sample)
    return x, samples


def set_norm_statistics(backbone: nn.Module,
                        images: Tensor | None = None) -> None:
    """Set the running statistics of BatchNorms to those of images.

    Otherwise the activations of a randomly initialised network overflow, and
    computing with infinite numbers takes another time.

    Args:
        images (Tensor): (N, 3, H, W). Defaults to random ones; on pictures,
            which are smoother, the activations would grow with the depth.
    """
    device = next(backbone.parameters()).device
    if images is None:
        images = torch.randn(2, 3, 128, 128, device=device)
    norms = [m for m in backbone.modules()
             if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train().momentum = 1.
    with torch.no_grad():
        backbone(images.to(device))
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum


def give_equal_boxes(detector: nn.Module) -> None:
    """Give the heads of a detector the same weights and the same maps in all
    systems, so that they find the same boxes.

    With random weights boxes differ by the backbone, and RoIAlign and NMS take
    longer for some boxes than for others. The maps are still computed, and
    still get gradients.
    """
    torch.manual_seed(0)
    for name, part in detector.named_children():
        if name not in ('data_preprocessor', 'backbone', 'neck'):
            part.init_weights()
    last = detector.neck if detector.with_neck else detector.backbone
    last.register_forward_hook(EqualMaps())


class EqualMaps:
    """A forward hook that replaces a module's maps by random ones, which are
    the same for all of one shape."""

    def __init__(self) -> None:
        self.maps = {}

    def __call__(self, module, args, levels):
        return tuple(level * 0 + self.map_like(level) for level in levels)

    def map_like(self, level: Tensor) -> Tensor:
        kind = level.shape, level.dtype
        if kind not in self.maps:
            generator = torch.Generator().manual_seed(0)
            self.maps[kind] = torch.randn(
                level.shape, generator=generator).to(level)
        return self.maps[kind]


def build(cfg: dict, form: str, case: Case) -> nn.Module:
    """Build one system's model (only the backbone if the case is not of
    detectors).

    Raises:
        ValueError: If the form does not fit: textbook without SCConv,
            deploy in a training or of a stock backbone. If a training would
            train nothing.
    """
    cfg = without_checkpoint(cfg)
    if case.regime != 'shipped':
        part = cfg.backbone
        while part is not None:  # what Swapped's module has comes first
            part.update(norm_eval=case.regime == 'norm-eval',
                        frozen_stages=-1)
            part = part.get('module')
    torch.manual_seed(0)
    model = revert_sync_batchnorm(
        MODELS.build(cfg if case.part == 'detector' else cfg.backbone))
    model.to(case.device)
    backbone = model.backbone if case.part == 'detector' else model
    set_norm_statistics(backbone)
    if case.part == 'detector':
        give_equal_boxes(model)
    model.train(case.task == 'training')
    if model.training and not any(p.requires_grad for p in
                                  model.parameters()):
        raise ValueError(
            f'regime={case.regime!r} is not valid for task=\'training\': the '
            'config freezes all parameters. Choose another regime')
    if form == 'textbook':
        switch_to_textbook(backbone)
    elif form == 'deploy':
        if case.task == 'training' or not deployable_parts(model):
            raise ValueError(
                f'form={form!r} is not valid for {type(backbone).__name__} '
                f'in task={case.task!r}: only what mmdet_scconv builds has '
                'it, for inference')
        deploy_parts(model)
    if case.channels_last:
        backbone.to(memory_format=torch.channels_last)
    return model
