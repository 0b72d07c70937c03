"""Converts a ResNet checkpoint to an SCConv-ResNet checkpoint: reads and
writes the files, shows progress."""
import datetime
import json
import os
import os.path as osp
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import mmdet
import numpy as np
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.config import Config
from rich.progress import Progress
from torch import Tensor, nn

from ..atomic import write_atomically
from ..backbones import SwapResNet
from ..pretrained import (
    local_file,
    read_dataset_meta,
    read_state_dict,
    sha256_of,
)
from ..pretrained.key_names import (
    find_prefix,
    resnet_settings,
    resnet_state_dict,
)
from ..version import __version__
from . import images
from .cache import store_fitted
from .distill import distill_network
from .layers import LayerReport
from .network import fit_network
from .pairs import build_pair

METHODS = ('copy', 'fit', 'distill')
CLASSIFIER = 'ImageClassifier'


@dataclass
class Conversion:
    """The options of a conversion.

    Args:
        method (str): 'copy' (all but the swapped convolutions), 'fit' (they
            are fitted, see docs/warm_start.md) or 'distill' (and trained
            towards the dense network's outputs).
        whole (bool): Whether the other weights of the source (neck and heads
            of a detector) are kept beside the backbone. Defaults to False.
        backbone (dict): Settings of the backbone, e.g. ``depth``,
            ``conv2_cfg``. What is missing follows from the weights.
        config (str | None): Detection config: its backbone's settings, its
            data_preprocessor, and, without ``folder``, its training images.
        folder (str | None): Folder with images.
        generated (bool): Whether to use random images with the spectrum of
            photographs instead.
        num_images (int): Defaults to 64.
        size (int): Side of the crops in pixels. Defaults to 224.
        steps (int): Of the distillation, 32 crops each. Defaults to 200.
        lr (float): Of the distillation. Defaults to 1e-3.
        seed (int): Defaults to 0.
        device (str): Defaults to 'cpu'.
    """

    method: str = 'fit'
    whole: bool = False
    backbone: dict = field(default_factory=dict)
    config: str | None = None
    folder: str | None = None
    generated: bool = False
    num_images: int = 64
    size: int = 224
    steps: int = 200
    lr: float = 1e-3
    seed: int = 0
    device: str = 'cpu'

    def check(self) -> None:
        """
        Raises:
            ValueError: For an option out of its range, or no images.
        """
        if self.method not in METHODS:
            raise ValueError(f'method={self.method!r} is not valid: one of '
                             f'{METHODS}')
        for name, minimum in (('num_images', 2), ('size', 32), ('steps', 1)):
            if getattr(self, name) < minimum:
                raise ValueError(f'{name}={getattr(self, name)!r} is not '
                                 f'valid: an int >= {minimum}')
        if self.method != 'copy' and not (self.config or self.folder
                                          or self.generated):
            raise ValueError(
                f'method={self.method!r} needs images: name a folder or a '
                'detection config, or ask for generated ones')

    def source_of_images(self) -> str:
        if self.folder:
            return f'folder {osp.basename(osp.abspath(self.folder))}'
        if self.generated:
            return 'generated, spectrum of 1/f'
        return f'training set of {osp.basename(self.config)}'


def backbone_of(cfg: Config) -> dict:
    """The config of a backbone with swapped convolutions.

    Raises:
        ValueError: If it has another backbone.
    """
    backbone = dict(cfg.model.backbone)
    kind = MODELS.get(backbone.get('type', ''))
    if not (kind and issubclass(kind, SwapResNet)):
        raise ValueError(f'the config has the backbone '
                         f'{backbone.get("type")!r}, not SCConvResNet or '
                         'another with swapped convolutions')
    return backbone


def load_images(options: Conversion, cfg: Config | None) -> Tensor:
    """Normalised crops, the same for the same options: (N, 3, size, size).
    """
    rng = np.random.default_rng(options.seed)
    count, size = options.num_images, options.size
    if options.folder:
        source = images.from_folder(options.folder, count, size, rng)
    elif options.generated:
        source = images.generated(count, size, rng)
    else:
        source = images.from_config(cfg, count, rng)
    return torch.cat(images.batches(
        source, size, rng, cfg and cfg.model.get('data_preprocessor')))


def check_whole(state_dict: Mapping[str, Tensor], out: str,
                classifier: bool) -> None:
    """Check that a converted file can be loaded as a whole detector.

    Raises:
        ValueError: If the source is no detector of MMDetection's names, or
            ``out`` is a format that ``load_from`` does not read.
    """
    if out.endswith('.safetensors'):
        raise ValueError(f'out={out!r} is not valid with whole=True: '
                         'load_from does not read .safetensors, name a .pth')
    if classifier:
        return
    prefix = find_prefix(state_dict)
    instead = ('without whole (--whole-detector) its ResNet is converted, for '
               "init_cfg=dict(type='Pretrained') of a backbone")
    if prefix.split('.')[-2:] != ['backbone', '']:
        raise ValueError(
            'whole=True keeps the neck and heads of a detector of '
            "MMDetection, whose ResNet lies under 'backbone.'; this file has "
            f'one under {prefix!r}, and nothing beside it would fit' +
            (" (torchvision's detectors have other heads)"
             if prefix.endswith('backbone.body.') else '') + f': {instead}')
    if all(name.startswith(prefix) for name in state_dict):
        raise ValueError('whole=True: there is nothing beside the backbone '
                         f'in the file: {instead}')


def save(path: str, state_dict: Mapping[str, Tensor], meta: dict) -> None:
    """Write a checkpoint atomically, as safetensors if its name ends so.

    Raises:
        ImportError: If safetensors is needed and missing.
        OSError: If it cannot be written.
    """
    os.makedirs(osp.dirname(osp.abspath(path)), exist_ok=True)
    if path.endswith('.safetensors'):
        from safetensors.torch import save as to_bytes
        write_atomically(path, to_bytes(
            {k: v.contiguous() for k, v in state_dict.items()},
            metadata=dict(meta=json.dumps(meta))))
    else:
        store_fitted(path, dict(meta=meta, state_dict=dict(state_dict)))


def merge(given: Mapping[str, Tensor], weights: Mapping[str, Tensor],
          backbone: Mapping[str, Tensor],
          classifier: bool) -> dict[str, Tensor]:
    """The state dict of the converted backbone with the other weights of the
    source.

    Args:
        given (Mapping): The source.
        weights (Mapping): Its ResNet, names without prefix.
        backbone (Mapping): The converted backbone.
        classifier (bool): Whether names are to be those of
            :class:`ImageClassifier`.
    """
    prefix = find_prefix(given)
    others = {k: v for k, v in given.items()
              if k.removeprefix(prefix) not in weights}
    if classifier:
        others = {f'fc.{k}': v for k, v in last_layer(others).items()}
        prefix = 'backbone.'
    return others | {prefix + k: v for k, v in backbone.items()}


def last_layer(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weight and bias of a classifier's last layer, ``fc`` or ``linear``."""
    return {key.rsplit('.', 1)[-1]: value for key, value in given.items()
            if re.search(r'(^|\.)(fc|linear)\.(weight|bias)$', key)}


def fit_and_distill(backbone: nn.Module, dense: nn.Module, images: Tensor,
                    options: Conversion,
                    head: Mapping[str, Tensor]) -> list[LayerReport]:
    """Fit, and distil if the options say so; shows progress. With the ``head``
    of a classifier (:func:`last_layer`) its scores are distilled."""
    def run(network: nn.Module, x: Tensor) -> object:
        out = network(x)
        if not head:
            return out
        return F.linear(out[-1].mean((2, 3)), **head)

    head = {key: value.to(options.device) for key, value in head.items()}
    with Progress() as progress:
        task = progress.add_task('fit', total=None)

        def fitted(report: LayerReport, total: int) -> None:
            progress.update(task, total=total, advance=1,
                            description=f'fit {report.name}')

        reports = fit_network(backbone, dense, images, report=fitted)
        if options.method == 'distill':
            task = progress.add_task('distill', total=options.steps)
            distill_network(
                backbone, dense, images, options.steps, options.lr, run,
                advance=lambda loss: progress.update(
                    task, advance=1, description=f'distill, loss {loss:.3f}'))
    return reports


def resnet_to_scconv(source: str, out: str,
                     options: Conversion) -> list[LayerReport]:
    """Convert a checkpoint; shows progress on the terminal. The file is
    written at the end.

    Args:
        source (str): Checkpoint of a ResNet: file, URL or
            ``torchvision://NAME``.
        out (str): File to write: ``.pth`` or ``.safetensors``.
        options (Conversion): How.

    Returns:
        list: A report for each fitted layer; none with method 'copy'.

    Raises:
        ValueError: For bad options, or a checkpoint that is not of a plain
            ResNet or does not fit.
        FileNotFoundError: If a file does not exist.
        FitError: If a layer cannot be fitted; a ValueError, too.
    """
    options.check()
    torch.manual_seed(options.seed)
    given = read_state_dict(source)
    weights = resnet_state_dict(given)
    cfg = Config.fromfile(options.config) if options.config else None
    classifier = bool(cfg) and cfg.model.get('type') == CLASSIFIER
    if options.whole:
        check_whole(given, out, classifier)
    dense, backbone = build_pair(
        weights, {**(backbone_of(cfg) if cfg else {}), **options.backbone})
    path = local_file(source)
    meta = dict(
        converted_from=dict(file=osp.basename(path), sha256=sha256_of(path)),
        method=options.method,
        backbone=dict(
            type=type(backbone).__name__, **resnet_settings(weights),
            conv2_cfg=dict(backbone.conv2_cfg)),
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(
            timespec='seconds'),
        versions=dict(mmdet_scconv=__version__, torch=str(torch.__version__),
                      mmdet=mmdet.__version__))
    reports: list[LayerReport] = []
    if options.method != 'copy':
        images = load_images(options, cfg)
        meta['images'] = dict(source=options.source_of_images(),
                              count=len(images), size=options.size)
        images = images.to(options.device)
        for network in (dense, backbone):
            network.to(options.device)
        head = last_layer(given) if classifier and options.whole else {}
        reports = fit_and_distill(backbone, dense, images, options, head)
        backbone.cpu()
        meta['layers'] = [asdict(report) for report in reports]
        if options.method == 'distill':
            meta['distillation'] = dict(steps=options.steps, lr=options.lr)
    result = backbone.state_dict()
    if options.whole:
        meta.update(read_dataset_meta(source))
        result = merge(given, weights, result, classifier)
    save(out, result, meta)
    return reports
