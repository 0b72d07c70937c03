"""The parts of a config's model that can be exported."""
import copy
from functools import partial

import torch
from mmdet.models.dense_heads import RTMDetHead, YOLOXHead
from mmdet.registry import DATASETS
from mmengine.config import Config
from torch import nn

from ..backbones.deploy import deploy_parts, deployable_parts
from ..classification import ImageClassifier
from ..layers.common import check
from .detections import detection_differences
from .judge import CHECKED, DETECTOR_CHECKED, Part, differences
from .reference import (
    PaddedBackbone,
    Predictions,
    size_divisor_of,
    test_cfg_of,
)
from .single_stage import RTMDetGraph, YOLOXGraph
from .two_stage import FasterRCNNGraph

PARTS = ('backbone', 'detector', 'classifier')


def classes_of(cfg: Config) -> list[str]:
    """Names of the classes, in the order of labels, from a config's test data
    set; empty if it has none."""
    dataset = cfg.get('test_dataloader', {}).get('dataset', {})
    classes = dataset.get('metainfo', {}).get('classes')
    if classes is None and 'type' in dataset:
        metainfo = getattr(DATASETS.get(dataset.type), 'METAINFO', {})
        classes = metainfo.get('classes')
    return [classes] if isinstance(classes, str) else list(classes or ())


def metadata_of(cfg: Config, model: nn.Module) -> dict[str, str]:
    """What a user of an exported file must know about its input and labels.

    Returns:
        dict: ``channels`` ('RGB' or 'BGR'), ``mean`` and ``std`` (pixels from
        0 to 255, minus mean, by std) and ``size_divisor`` (what zeros at
        right and bottom bring height and width to a multiple of), all of
        float32 images, (N, 3, H, W); ``classes``, one a line; ``config``,
        its name.
    """
    data = cfg.model.get('data_preprocessor') or {}
    return dict(
        channels='RGB' if data.get('bgr_to_rgb') else 'BGR',
        mean=' '.join(map(str, data.get('mean') or (0, 0, 0))),
        std=' '.join(map(str, data.get('std') or (1, 1, 1))),
        size_divisor=str(size_divisor_of(model)),
        classes='\n'.join(classes_of(cfg)),
        config=cfg.filename.replace('\\', '/').rsplit('/', 1)[-1]
        if cfg.filename else '')


def deploy(model: nn.Module) -> bool:
    """Fold the parts of a model for inference that have such a form; returns
    whether the backbone has."""
    parts = deployable_parts(model)
    if parts:
        deploy_parts(model)
    return 'backbone' in parts


def detector_graph(model: nn.Module) -> nn.Module:
    """A detector, in eval mode, as a graph from images to detections.

    Raises:
        ValueError: If it has a part that is not built here.
    """
    head = getattr(model, 'bbox_head', None)
    if isinstance(head, RTMDetHead):
        return RTMDetGraph(model)
    return (YOLOXGraph if isinstance(head, YOLOXHead) else
            FasterRCNNGraph)(model)


def part_of(model: nn.Module, name: str,
            metadata: dict[str, str] | None = None) -> Part:
    """A part of a detector or classifier, to be exported.

    A copy is exported, folded for inference where its parts can be. The model
    itself stays as it is, and is the reference.

    Args:
        model (nn.Module): In eval mode, on the CPU.
        name (str): 'backbone': the outputs are its stages, as
            ``out_indices`` has them. 'detector': boxes, scores and labels,
            see :class:`FasterRCNNGraph`. 'classifier': an ImageClassifier's
            scores before the softmax, (N, num_classes).
        metadata (dict): Of :func:`metadata_of`.

    Raises:
        ValueError: If there is no such part.
    """
    check(name in PARTS, 'part', name, f'one of {PARTS}')
    compare, gated = differences, None
    exported = copy.deepcopy(model)
    if name == 'detector':
        module = detector_graph(exported)
        outputs = ('boxes', 'scores', 'labels')
        reference, gated = Predictions(model), PaddedBackbone(model)
        compare = partial(
            detection_differences,
            score_threshold=test_cfg_of(model).score_thr)
    elif name == 'classifier':
        check(
            isinstance(model, ImageClassifier), 'part', name,
            f'only of an ImageClassifier, not of a {type(model).__name__}')
        module, outputs = Classifier(exported), ('scores', )
        reference = Classifier(model)
    else:
        module, outputs = exported.backbone, stage_names(model.backbone)
        reference = model.backbone
    deployed = deploy(exported)
    return Part(
        module, reference, outputs,
        dict(
            metadata or {},
            part=name,
            backbone=type(model.backbone).__name__ +
            (', deployed' if deployed else '')), compare,
        DETECTOR_CHECKED if name == 'detector' else CHECKED, gated)


class Classifier(nn.Module):
    """An ImageClassifier with a tuple as its output."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        return self.model(images),


def stage_names(backbone: nn.Module) -> tuple[str, ...]:
    """A name for each output: the backbone's own (``layers`` of CSPNeXt), or
    stage1, ... where it has ``out_indices``, else output1, ..."""
    with torch.no_grad():
        count = len(backbone(torch.zeros(1, 3, 64, 64)))
    indices = getattr(backbone, 'out_indices', ())
    layers = getattr(backbone, 'layers', None)
    if len(indices) == count:
        if isinstance(layers, list) and all(
                isinstance(name, str) for name in layers):
            return tuple(layers[i] for i in indices)
        return tuple(f'stage{i + 1}' for i in indices)
    return tuple(f'output{i + 1}' for i in range(count))
