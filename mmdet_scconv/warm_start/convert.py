"""Converts a ResNet checkpoint to an SCConv-ResNet checkpoint: reads and
writes the files, shows progress."""
import datetime
import math
import os.path as osp
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

from ..backbones import SwapResNet
from ..pretrained import (
    local_file,
    read_dataset_meta,
    read_state_dict,
    sha256_of,
)
from ..pretrained.key_names import resnet_settings, resnet_state_dict
from ..version import __version__
from . import images
from .converted_file import check_whole, last_layer, merge, save
from .distill import LR, STEPS, STEPS_OF_SCORES, distill_network
from .layers import LayerReport
from .network import fit_network
from .pairs import build_pair
from .start import NUM_IMAGES, SIZE

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
        num_images (int | None): Defaults to as many as have the area of 64
            of 224 pixels, as at the start of a training.
        size (int): Side of the crops in pixels. Defaults to 224.
        steps (int | None): Of the distillation, 32 crops each. Defaults to
            200, with the scores of a classifier to 2000.
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
    num_images: int | None = None
    size: int = 224
    steps: int | None = None
    lr: float = LR
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
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ValueError(f'{name}={getattr(self, name)!r} is not '
                                 f'valid: an int >= {minimum}')
        if self.method != 'copy' and not (self.config or self.folder
                                          or self.generated):
            raise ValueError(
                f'method={self.method!r} needs images: name a folder or a '
                'detection config, or ask for generated ones')

    def count(self) -> int:
        """How many images are to be taken."""
        area = NUM_IMAGES * SIZE**2
        return self.num_images or max(2, math.ceil(area / self.size**2))

    def count_steps(self, scores: bool) -> int:
        """How many steps of distillation are to be made; ``scores``: whether
        of a classifier's scores, too."""
        return self.steps or (STEPS_OF_SCORES if scores else STEPS)

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
    count, size = options.count(), options.size
    if options.folder:
        source = images.from_folder(options.folder, count, size, rng)
    elif options.generated:
        source = images.generated(count, size, rng)
    else:
        source = images.from_config(cfg, count, rng)
    return torch.cat(images.batches(
        source, size, rng, cfg and cfg.model.get('data_preprocessor')))


def fit_and_distill(backbone: nn.Module, dense: nn.Module, images: Tensor,
                    options: Conversion,
                    head: Mapping[str, Tensor]) -> list[LayerReport]:
    """Fit, and distil if the options say so; shows progress. With the ``head``
    of a classifier (:func:`last_layer`) its scores are distilled, too."""
    def run(network: nn.Module, x: Tensor) -> object:
        out = network(x)
        if not head:
            return out
        return [*out, F.linear(out[-1].mean((2, 3)), **head)]

    head = {key: value.to(options.device) for key, value in head.items()}
    with Progress() as progress:
        task = progress.add_task('fit', total=None)

        def fitted(report: LayerReport, total: int) -> None:
            progress.update(task, total=total, advance=1,
                            description=f'fit {report.name}')

        reports = fit_network(backbone, dense, images, report=fitted)
        if options.method == 'distill':
            steps = options.count_steps(bool(head))
            task = progress.add_task('distill', total=steps)
            distill_network(
                backbone, dense, images, steps, options.lr, run,
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
            meta['distillation'] = dict(
                steps=options.count_steps(bool(head)), lr=options.lr)
    result = backbone.state_dict()
    if options.whole:
        meta.update(read_dataset_meta(source))
        result = merge(given, weights, result, classifier)
    save(out, result, meta)
    return reports
