"""Converts a ResNet checkpoint to an SCConv-ResNet checkpoint, files and
progress included."""
import datetime
import json
import os
import os.path as osp
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import mmdet
import numpy as np
import torch
from mmengine.config import Config
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from ..pretrained import (
    local_file,
    read_dataset_meta,
    read_state_dict,
    sha256_of,
)
from ..pretrained.key_names import find_prefix, resnet_state_dict
from ..version import __version__
from . import images
from .blocks import METHODS, BlockReport, blocks_of, build_pair, convert


@dataclass
class Conversion:
    """What to convert to, how, and with which images.

    Args:
        method (str): 'copy' (all but the SCConvs), 'fit' (them in closed
            form, too) or 'distill' (and trained block by block).
        whole (bool): Whether what else the source holds, the neck and heads
            of a detector, is kept beside the backbone. Defaults to False.
        backbone (dict): Settings of SCConvResNet, e.g. ``depth``,
            ``conv2_cfg``. What is missing follows from the weights.
        config (str | None): Detection config: its backbone's settings, its
            data_preprocessor, and, without ``folder``, its training images.
        folder (str | None): Folder with images.
        generated (bool): Images of noise instead.
        num_images (int): Defaults to 64.
        size (int): Side of the crops in pixels. Defaults to 224.
        steps (int): Of the distillation, for each block. Defaults to 200.
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
            return 'generated noise, 1/f'
        return f'training set of {osp.basename(self.config)}'


def backbone_of(cfg: Config) -> dict:
    """Settings of a detector's SCConvResNet.

    Raises:
        ValueError: If it has another backbone.
    """
    backbone = dict(cfg.model.backbone)
    if backbone.get('type') != 'SCConvResNet':
        raise ValueError(f'the config has the backbone '
                         f'{backbone.get("type")!r}, not SCConvResNet')
    return backbone


def load_images(options: Conversion, cfg: Config | None) -> list[Tensor]:
    """Batches of normalised crops, the same for the same options."""
    rng = np.random.default_rng(options.seed)
    count, size = options.num_images, options.size
    if options.folder:
        source = images.from_folder(options.folder, count, size, rng)
    elif options.generated:
        source = images.generated(count, size, rng)
    else:
        source = images.from_config(cfg, count, rng)
    batches = images.batches(source, size, rng,
                             cfg and cfg.model.get('data_preprocessor'))
    if len(batches) == 1:  # to fit to, to hold out
        batches = list(batches[0].chunk(2))
    return batches


def check_whole(state_dict: Mapping[str, Tensor], out: str) -> None:
    """Check that a converted file can be loaded as a whole detector.

    Raises:
        ValueError: If the source is no detector of MMDetection's names, or
            ``out`` is a format that ``load_from`` does not read.
    """
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
    if out.endswith('.safetensors'):
        raise ValueError(f'out={out!r} is not valid with whole=True: '
                         'load_from does not read .safetensors, name a .pth')


def save(path: str, state_dict: Mapping[str, Tensor], meta: dict) -> None:
    """Write a checkpoint, as safetensors where the name ends so.

    Raises:
        ImportError: If safetensors is needed and missing.
    """
    os.makedirs(osp.dirname(osp.abspath(path)), exist_ok=True)
    unfinished = f'{path}.unfinished'
    if path.endswith('.safetensors'):
        from safetensors.torch import save_file
        save_file({k: v.contiguous() for k, v in state_dict.items()},
                  unfinished, metadata=dict(meta=json.dumps(meta)))
    else:
        torch.save(dict(meta=meta, state_dict=dict(state_dict)), unfinished)
    os.replace(unfinished, path)


def resnet_to_scconv(source: str, out: str,
                     options: Conversion) -> list[BlockReport]:
    """Convert a checkpoint; shows progress on the terminal.

    An interrupted conversion goes on from its last finished block, kept in
    ``OUT.blocks``.

    Args:
        source (str): Checkpoint of a ResNet: file, URL or
            ``torchvision://NAME``.
        out (str): File to write: ``.pth`` or ``.safetensors``.
        options (Conversion): How.

    Returns:
        list: A report for each fitted block; none with method 'copy'.

    Raises:
        ValueError: For bad options, a checkpoint of no plain ResNet, or one
            that does not fit.
        FileNotFoundError: If a file does not exist.
        FitError: If a block cannot be fitted; a ValueError, too.
    """
    options.check()
    torch.manual_seed(options.seed)
    given = read_state_dict(source)
    weights = resnet_state_dict(given)
    if options.whole:
        check_whole(given, out)
    cfg = Config.fromfile(options.config) if options.config else None
    dense, backbone = build_pair(
        weights, {**(backbone_of(cfg) if cfg else {}), **options.backbone})
    path = local_file(source)
    meta = dict(
        converted_from=dict(file=osp.basename(path), sha256=sha256_of(path)),
        method=options.method,
        backbone=dict(
            type='SCConvResNet', depth=backbone.depth,
            base_channels=backbone.base_channels,
            conv2_cfg=dict(backbone.conv2_cfg)),
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(
            timespec='seconds'),
        versions=dict(mmdet_scconv=__version__, torch=str(torch.__version__),
                      mmdet=mmdet.__version__))
    reports: list[BlockReport] = []
    if options.method != 'copy':
        meta['images'] = dict(source=options.source_of_images(),
                              count=options.num_images, size=options.size)
        batches = load_images(options, cfg)
        meta['images']['count'] = sum(map(len, batches))
        steps = options.steps if options.method == 'distill' else 0
        request = json.loads(json.dumps(dict(
            asdict(options), source=meta['converted_from'],
            backbone=meta['backbone']), default=str))
        blocks = f'{out}.blocks'
        with Progress(
                TextColumn('{task.description}'), BarColumn(),
                TextColumn('{task.completed:.1f} of {task.total} blocks'),
                TimeElapsedColumn()) as progress:
            task = progress.add_task(
                options.method, total=len(list(blocks_of(backbone))))

            def advance(name: str, share: float) -> None:
                progress.update(task, advance=share,
                                description=f'{options.method} {name}')

            reports = convert(dense, backbone, batches, steps, options.lr,
                              options.device, blocks, request, advance)
        meta['blocks'] = [asdict(report) for report in reports]
        meta['distillation'] = dict(steps=steps, lr=options.lr)
    result = backbone.state_dict()
    if options.whole:
        meta.update(read_dataset_meta(source))
        prefix = find_prefix(given)
        result = {k: v for k, v in given.items()
                  if k[len(prefix):] not in weights} | {
                      prefix + k: v for k, v in result.items()}
    save(out, result, meta)
    if reports:
        shutil.rmtree(blocks, ignore_errors=True)
    return reports
