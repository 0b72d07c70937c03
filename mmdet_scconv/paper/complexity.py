"""Parameters and FLOPs by three counters, from a config alone.

All three count a multiply-accumulate (MAC) as one; they differ in the
operations that they count:

- ``macs``: ``nn.Conv2d`` (without bias) and ``nn.Linear``, nothing else. What
  most papers mean by "FLOPs".
- ``thop``: the rule of thop (to 0.0.31), which the SCConv paper evidently
  used: also the bias of a convolution (1 an output), BatchNorm (2 an
  element), average pooling (1 an output; global: 1 an input element and 1 an
  output). Not GroupNorm, activations or sums.
- ``mmengine``: ``mmengine.analysis.FlopAnalyzer``: convolutions (without
  bias), matrix products, BatchNorm (2 an element), GroupNorm (5 an element),
  upsampling.

None of them predicts the run time.
"""
import copy
import functools
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.analysis import FlopAnalyzer
from mmengine.config import ConfigDict
from torch import Tensor, nn

from ..classification import ImageClassifier
from ..layers import SCConv, VersatileConv
from ..layers.common import GlobalMean

COUNTERS = ('macs', 'thop', 'mmengine')


class TensorMode(nn.Module):
    """A detector up to its raw outputs, without losses and post-processing."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, x: Tensor):
        shape = tuple(x.shape[2:])
        sample = DetDataSample(
            metainfo=dict(
                img_shape=shape,
                ori_shape=shape,
                pad_shape=shape,
                batch_input_shape=shape,
                scale_factor=(1., 1.)))
        return self.detector(x, [sample] * len(x), mode='tensor')


@dataclass(frozen=True)
class Complexity:
    """Counts of one model for one image.

    ``params`` counts all parameters, ``group_norm_params`` those that thop's
    rule does not count. ``mmengine`` is None if it was not requested.
    """

    params: int
    group_norm_params: int
    macs: int
    thop: int
    mmengine: int | None = None

    @property
    def params_without_group_norm(self) -> int:
        return self.params - self.group_norm_params


def switch_to_reference(model: nn.Module) -> None:
    """Let SCConv layers call their submodules, so that their hooks run."""
    for module in model.modules():
        if isinstance(module, SCConv):
            module.implementation = 'reference'


def module_ops(module: nn.Module, x: Tensor, out: Tensor) -> tuple[int, int]:
    """Operations of one call of one module by the first two counters."""
    if isinstance(module, nn.Conv2d):
        macs = out.numel() * module.weight[0].numel()
        return macs, macs + (module.bias is not None) * out.numel()
    if isinstance(module, VersatileConv):  # its crops are no modules
        macs = out.numel() // module.num_crops * sum(
            weight[0].numel() for weight in module.crops())
        return macs, macs
    if isinstance(module, nn.Linear):
        macs = out.numel() * module.in_features
        return macs, macs
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return 0, 2 * x.numel()
    if isinstance(module, nn.AvgPool2d):
        return 0, out.numel()
    if isinstance(module, (GlobalMean, nn.AdaptiveAvgPool2d)):
        return 0, (x.numel() // out.numel() + 1) * out.numel()
    return 0, 0


def count(model: nn.Module,
          shape: tuple[int, int],
          mmengine: bool = True,
          device: str = 'cpu') -> Complexity:
    """Count a model's parameters, and its operations on one image.

    Args:
        model (nn.Module): Takes a batch of images, (1, 3, H, W).
        shape (tuple): Height and width in pixels.
        mmengine (bool): Whether to count by MMEngine, too, which runs the
            model on the CPU. Defaults to True.
        device (str): Where the other two counters run the model: 'meta'
            computes nothing but shapes. Defaults to 'cpu'.

    Returns:
        Complexity: The counts; operations as MACs.
    """
    model = copy.deepcopy(model)
    model.eval()  # not chained: mmdet's ResNet returns None
    switch_to_reference(model)
    x = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(0))
    by_mmengine = None
    if mmengine:
        with warnings.catch_warnings():  # those of torch.jit's tracer
            warnings.simplefilter('ignore')
            by_mmengine = int(
                FlopAnalyzer(model, (x, )).unsupported_ops_warnings(False).
                uncalled_modules_warnings(False).total())
    totals = [0, 0]

    def add(module, inputs, out):
        for i, ops in enumerate(module_ops(module, inputs[0], out)):
            totals[i] += ops

    for module in model.modules():
        if not list(module.children()):
            module.register_forward_hook(add)
    with torch.no_grad():
        model.to(device)(x.to(device))
    return Complexity(
        params=sum(p.numel() for p in model.parameters()),
        group_norm_params=sum(
            p.numel() for m in model.modules() if isinstance(m, nn.GroupNorm)
            for p in m.parameters()),
        macs=totals[0],
        thop=totals[1],
        mmengine=by_mmengine)


def without_checkpoint(cfg: dict) -> ConfigDict:
    """A copy of a model's config without the weights of its backbone."""
    cfg = copy.deepcopy(ConfigDict(cfg))
    for part in (cfg, cfg.get('backbone', {})):
        part.pop('init_cfg', None)
        part.pop('pretrained', None)
    return cfg


def where_counted(mmengine: bool) -> torch.device:
    """Where to build what is counted; random weights take longest."""
    return torch.device('cpu' if mmengine else 'meta')


def count_classifier(backbone: dict,
                     shape: tuple[int, int],
                     mmengine: bool = False,
                     num_classes: int = 1000) -> Complexity:
    """Count a backbone with a fc of (ImageNet's 1000) classes, as
    classification papers and SCConv's detection tables do.

    Raises:
        ValueError: If the backbone has no ``feat_dim``, its width, which
            ResNets have.
    """
    return _count_classifier(
        json.dumps(backbone, default=str), tuple(shape), mmengine, num_classes)


@functools.cache  # tables share rows
def _count_classifier(backbone: str, shape: tuple[int, int], mmengine: bool,
                      num_classes: int) -> Complexity:
    with where_counted(mmengine):
        net = ImageClassifier(
            without_checkpoint(json.loads(backbone)), num_classes)
    return count(net, shape, mmengine, device='meta')


def count_backbone(backbone: dict,
                   shape: tuple[int, int],
                   mmengine: bool = False) -> Complexity:
    """Count a backbone alone, or an ``ImageClassifier``."""
    with where_counted(mmengine):
        net = MODELS.build(without_checkpoint(backbone))
    return count(net, shape, mmengine, device='meta')


def count_detector(model: dict,
                   shape: tuple[int, int],
                   mmengine: bool = False) -> Complexity:
    """Count a whole detector up to its raw outputs.

    In two-stage detectors the head is counted for the proposals that an
    untrained RPN finds on one random image.
    """
    return count(
        TensorMode(MODELS.build(without_checkpoint(model))), shape, mmengine)


def is_classifier(model: dict) -> bool:
    """Whether a model's config is of an image classifier of this package."""
    return model['type'] == 'ImageClassifier'


def count_with_classifier(model: dict, shape: tuple[int, int]) -> Complexity:
    """Count the backbone of a config's model with its classifier: that of an
    ``ImageClassifier``, else one of 1000 classes.

    Raises:
        ValueError: If there is no backbone, or it does not tell its width.
    """
    if 'backbone' not in model:
        raise ValueError(f'model type={model.get("type")!r} has no backbone')
    classes = model['num_classes'] if is_classifier(model) else 1000
    return count_classifier(model['backbone'], shape, num_classes=classes)


def count_parts(model: dict,
                shape: tuple[int, int],
                mmengine: bool = False
                ) -> Iterator[tuple[str, Complexity | ValueError]]:
    """Count the parts of a config's model: the whole, its backbone, and, of a
    detector, the backbone with fc; each with its name, or why it cannot be
    counted."""
    if is_classifier(model):
        parts = [('classifier', count_backbone, model)]
    else:
        parts = [('backbone + fc', count_classifier, model['backbone']),
                 ('detector', count_detector, model)]
    parts.insert(1, ('backbone', count_backbone, model['backbone']))
    for name, counter, part in parts:
        try:
            yield name, counter(part, shape, mmengine=mmengine)
        except ValueError as error:
            yield name, error
