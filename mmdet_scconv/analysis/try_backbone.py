"""Does a detector work with another backbone? One step of each kind tells.

A stock config is built with its ResNet or ResNeXt swapped, without weights,
and does a training and a test step on two small images of noise. The model is
as wide and as deep as ever. Where it fails, the stock config is tried
likewise: what fails there, too, is MMDetection's own. Some detectors need more
pixels than others, for their pyramid or their number of queries: before such a
verdict, both are tried on larger images.
"""
import multiprocessing
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mmcv
import mmdet
import mmengine
import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.testing import (
    demo_mm_inputs,
    demo_mm_proposals,
    demo_track_inputs,
)
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.utils import import_modules_from_strings
from torch import nn

from ..version import __version__
from .tables import markdown_table

STOCK_CONFIGS = Path(mmdet.__path__[0], '.mim', 'configs')
SWAPPABLE = ('ResNet', 'ResNetV1d', 'ResNeXt')
NUM_IMAGES = 2
NUM_BOXES = 3
SIZES = (128, 384)
COLUMNS = ('config', 'backbone', 'Params (M)', 'size', 'loss', 'result')


def swapped(backbone: dict, name: str) -> dict:
    """The config of a backbone, of type ``name`` instead.

    As a user would write it who has no weights for the new convolutions:
    nothing is frozen and BatchNorm learns, for which an ``eps`` of 0 becomes
    its default. A ResNetV1d becomes its two options. Stages with deformable
    convolutions keep those.

    Args:
        backbone (dict): Of type ResNet, ResNetV1d or ResNeXt.
        name (str): E.g. 'SCConvResNet'; the one for a ResNeXt is found by
            its name, 'SCConvResNeXt'.

    Raises:
        ValueError: If there is no such backbone for a ResNeXt.
    """
    old = backbone['type']
    if old == 'ResNeXt':
        name = name.replace('ResNet', 'ResNeXt')
    if MODELS.get(name) is None:
        raise ValueError(f'backbone {name!r} for a {old} does not exist')
    new = {**backbone, 'type': name, 'frozen_stages': -1, 'norm_eval': False}
    if old == 'ResNetV1d':
        new.update(deep_stem=True, avg_down=True)
    norm_cfg = dict(new.get('norm_cfg', {}))
    if norm_cfg.get('eps') == 0:
        del norm_cfg['eps']
        new['norm_cfg'] = norm_cfg
    if backbone.get('dcn') is not None:
        new['stages_with_swap'] = tuple(not d
                                        for d in backbone['stage_with_dcn'])
    return new


def backbones_in(model: dict) -> list[dict]:
    """The dicts of a model's config that have a ``backbone``: the detector,
    or a part of a tracker or a semi-supervised model."""
    found = [model] if isinstance(model.get('backbone'), dict) else []
    for key, part in model.items():
        if isinstance(part, dict) and key != 'backbone':
            found += backbones_in(part)
    return found


def can_be_swapped(model: dict) -> bool:
    """Whether a model's config has a backbone that can be swapped."""
    return any(part['backbone'].get('type') in SWAPPABLE
               for part in backbones_in(model))


def swap_in_model(model: dict, name: str | None) -> str:
    """Swap, in place, the backbones that can be.

    Args:
        model (dict): The model's config.
        name (str | None): See :func:`swapped`; None leaves them.

    Returns:
        str: The types of its backbones.

    Raises:
        ValueError: If none can be swapped.
    """
    parts = backbones_in(model)
    types = [part['backbone']['type'] for part in parts]
    if not can_be_swapped(model):
        raise ValueError(f'model type={model["type"]!r} with backbones '
                         f'{types}: none of them is {" or ".join(SWAPPABLE)}')
    for part in parts:
        if name is not None and part['backbone']['type'] in SWAPPABLE:
            part['backbone'] = ConfigDict(swapped(part['backbone'], name))
    return ' + '.join(part['backbone']['type'] for part in parts)


def without_weights(model: dict) -> None:
    """Remove, in place, all that would load weights; find the teacher's
    config where MMDetection is installed."""
    for key in ('pretrained', 'teacher_ckpt'):
        if key in model:
            model[key] = None
    if isinstance(model.get('teacher_config'), str):
        model['teacher_config'] = str(STOCK_CONFIGS.parent /
                                      model['teacher_config'])
    if 'Pretrained' in str(model.get('init_cfg')):
        model.pop('init_cfg')
    for part in model.values():
        if isinstance(part, dict):
            without_weights(part)


def load_config(path: str) -> Config:
    """A config by its path or as ``PACKAGE::FOLDER/NAME.py``.

    Raises:
        FileNotFoundError: If it does not exist.
    """
    scope, separator, name = path.partition('::')
    if not separator:
        return Config.fromfile(path)
    if scope != 'mmdet':
        return get_config(path)
    return Config.fromfile(STOCK_CONFIGS / name)  # also of gn+ws


def num_classes(model: dict) -> int:
    """Of the head with the fewest."""
    found = [model['num_classes']] if isinstance(
        model.get('num_classes'), int) else []
    parts = [
        part for value in model.values()
        for part in (value if isinstance(value, (list, tuple)) else [value])
        if isinstance(part, dict)
    ]
    return min([*found, *map(num_classes, parts)], default=10**6)


def images_of_noise(model: dict, size: int) -> dict:
    """Two images with all annotations that a detector may ask for, as a data
    loader would give them.

    Args:
        model (dict): The model's config; tells which form of data it takes.
        size (int): Height and width in pixels.
    """
    np.random.seed(0)
    preprocessor = model.get('data_preprocessor', {}).get('type', '')
    if preprocessor == 'TrackDataPreprocessor':
        data = demo_track_inputs(
            num_frames=2,
            key_frames_inds=[0],
            image_shapes=(3, size, size),
            num_items=[NUM_BOXES],
            with_mask=True)
        data['data_samples'] = list(data['data_samples'])
        return data
    data = demo_mm_inputs(
        NUM_IMAGES, (3, size, size),
        num_items=[NUM_BOXES] * NUM_IMAGES,
        with_mask=True,
        with_semantic=True)
    proposals = demo_mm_proposals([(3, size, size)] * NUM_IMAGES, 20)
    for sample, proposal in zip(data['data_samples'], proposals):
        sample.gt_instances.labels %= num_classes(model)
        sample.set_metainfo(dict(homography_matrix=np.eye(3, dtype='f')))
        if 'roi_head' in model and 'rpn_head' not in model:
            sample.proposals = proposal
    return data


def branches(data: dict) -> dict:
    """The data of semi-supervised training: three views of the images."""
    return {
        key: {
            branch: list(values)
            for branch in ('sup', 'unsup_teacher', 'unsup_student')
        }
        for key, values in data.items()
    }


def train_step(model: nn.Module, data: dict) -> float:
    """Forward and backward; the loss.

    Raises:
        ArithmeticError: If the loss or a gradient is not finite.
        RuntimeError: If a parameter of the backbone gets no gradient.
    """
    model.train()
    # some losses change in the course of a training, and read where it is
    for name in ('epoch', 'iter'):
        MessageHub.get_current_instance().update_info(name, 0)
    data = model.data_preprocessor(data, True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    if not loss.isfinite():
        raise ArithmeticError(f'the loss is {loss.item()}')
    loss.backward()
    for name, parameter in model.named_parameters():
        if 'backbone' not in name.split('.') or not parameter.requires_grad:
            continue
        if parameter.grad is None:
            raise RuntimeError(f'{name} gets no gradient')
        if not parameter.grad.isfinite().all():
            raise ArithmeticError(f'the gradient of {name} is not finite')
    return loss.item()


def test_step(model: nn.Module, data: dict) -> None:
    """Predict.

    Raises:
        ArithmeticError: If a score or a box is not finite.
        RuntimeError: If an image has no result.
    """
    model.eval()
    wanted = len(data['data_samples'])
    with torch.no_grad():
        samples = model.test_step(data)
    if len(samples) != wanted:
        raise RuntimeError(f'{len(samples)} results for {wanted} images')
    for sample in samples:
        found = sample.get('pred_instances')
        for key in ('scores', 'bboxes') if found is not None else ():
            if key in found and not found[key].isfinite().all():
                raise ArithmeticError(f'{key} are not finite')


@dataclass(frozen=True)
class Attempt:
    """What came of a config with one backbone.

    ``failed`` is empty where all went well, else the step: 'build', 'train',
    'test' (a crash or a timeout: 'run'); ``error`` says why. ``params`` are
    the backbone's.
    """

    backbone: str = ''
    params: int | None = None
    loss: float | None = None
    failed: str = ''
    error: str = ''


def attempt(config: str, backbone: str | None,
            size: int = SIZES[0]) -> Attempt:
    """Build, train and test once.

    Args:
        config (str): Path, or ``mmdet::FOLDER/NAME.py``.
        backbone (str | None): Type to swap to; None: the stock config.
        size (int): Height and width of the images in pixels. Defaults to 128.
    """
    torch.manual_seed(0)
    done, step = Attempt(), 'build'
    try:
        cfg = load_config(config)
        if cfg.get('custom_imports'):
            import_modules_from_strings(**cfg.custom_imports)
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        model_cfg = cfg.model
        without_weights(model_cfg)
        done = replace(done, backbone=swap_in_model(model_cfg, backbone))
        # SyncBN needs a GPU
        model = revert_sync_batchnorm(MODELS.build(model_cfg))
        done = replace(
            done,
            params=sum(p.numel() for n, p in model.named_parameters()
                       if 'backbone' in n.split('.')))
        model.init_weights()
        step = 'train'
        data = images_of_noise(model_cfg, size)
        if 'semi_train_cfg' in model_cfg:
            data = branches(data)
        done = replace(done, loss=train_step(model, data))
        step = 'test'
        test_step(model, images_of_noise(model_cfg, size))
    except Exception as error:  # whatever it is goes into the table
        traceback.print_exc()
        # an assert mostly has no message
        text = str(error).strip() or traceback.extract_tb(
            error.__traceback__)[-1].line
        text = ' '.join(text.splitlines()[0].split())
        done = replace(
            done, failed=step, error=f'{type(error).__name__}: {text}')
    return done


def _child(pipe, log: str, *args) -> None:
    with open(log, 'w') as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    pipe.send(attempt(*args))


def attempt_apart(config: str,
                  backbone: str | None,
                  size: int = SIZES[0],
                  timeout: float = 300,
                  log_dir: str | None = None) -> Attempt:
    """:func:`attempt` in a process of its own, which may crash or hang.

    Args:
        config, backbone, size: See :func:`attempt`.
        timeout (float): Seconds. Defaults to 300.
        log_dir (str | None): Folder for what the process prints, a file for
            each config and backbone. Defaults to None.
    """
    log = os.devnull
    if log_dir is not None:
        os.makedirs(log_dir, exist_ok=True)
        log = os.path.join(log_dir,
                           f'{Path(config).stem}.{backbone or "stock"}.log')
    # forked from a server that has imported everything
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['mmdet.models', 'mmdet_scconv'])
    here, there = context.Pipe(duplex=False)
    process = context.Process(
        target=_child, args=(there, log, config, backbone, size))
    process.start()
    there.close()
    try:
        if here.poll(timeout):
            return here.recv()
        error = f'no end after {timeout:.0f} s'
    except EOFError:
        process.join()
        error = f'the process ended with exit code {process.exitcode}'
    finally:
        process.kill()
        process.join()
        here.close()
    return Attempt(failed='run', error=error)


@dataclass(frozen=True)
class Trial:
    """A config with the swapped backbone, and with its own where that
    failed; on images of ``size`` pixels."""

    config: str
    size: int
    swapped: Attempt
    stock: Attempt | None = None

    @property
    def works(self) -> bool:
        return not self.swapped.failed

    @property
    def ours(self) -> bool:
        """Whether it fails by the swap: the stock config works."""
        return not self.works and not self.stock.failed

    @property
    def verdict(self) -> str:
        if self.works:
            return 'works'
        reason = f'{self.swapped.failed}: {self.swapped.error}'
        if self.ours:
            return f'fails by the swap, {reason}'
        if (self.swapped.failed, self.swapped.error) == (self.stock.failed,
                                                         self.stock.error):
            return f'fails, as the stock config does, {reason}'
        return (f'fails, {reason}; so does the stock config, '
                f'{self.stock.failed}: {self.stock.error}')


def try_config(config: str,
               run: Callable[[str, str | None, int], Attempt],
               backbone: str = 'SCConvResNet',
               sizes: Sequence[int] = SIZES) -> Trial:
    """Try the swapped backbone, and the stock config if that fails.

    Args:
        config (str): See :func:`attempt`.
        run (Callable): Makes an :class:`Attempt` of a config, a backbone and
            a size.
        backbone (str): Defaults to 'SCConvResNet'.
        sizes (Sequence[int]): Of the images, in pixels. The next one is taken
            where a step fails with both backbones. Defaults to ``SIZES``.
    """
    for size in sizes:
        new = run(config, backbone, size)
        stock = run(config, None, size) if new.failed else None
        trial = Trial(config, size, new, stock)
        if trial.works or trial.ours or new.failed not in ('train', 'test'):
            break
    return trial


def representatives() -> tuple[list[str], list[str]]:
    """One stock config for each folder of MMDetection's.

    It is the one with the shortest name (the first in the alphabet of equally
    short ones), those with ``r50`` in it first, whose backbone can be
    swapped.

    Returns:
        tuple: The configs, as ``mmdet::FOLDER/NAME.py``; and the folders
        that have none.
    """
    configs, without = [], []
    for folder in sorted(STOCK_CONFIGS.iterdir()):
        if folder.name.startswith('_') or not folder.is_dir():
            continue
        files = sorted(
            folder.glob('*.py'),
            key=lambda path: ('r50' not in path.name, len(path.name),
                              path.name))
        for path in files:
            try:
                model = Config.fromfile(path).get('model')
            except (ImportError, FileNotFoundError):
                continue  # needs a package, or a base that is not shipped
            if model is not None and can_be_swapped(model):
                configs.append(f'mmdet::{folder.name}/{path.name}')
                break
        else:
            without.append(folder.name)
    return configs, without


def table_row(trial: Trial) -> list[str]:
    """A line of the table, see ``COLUMNS``; of the swapped backbone."""
    new = trial.swapped
    return [
        trial.config, new.backbone or '-',
        '-' if new.params is None else f'{new.params / 1e6:.2f}',
        str(trial.size), '-' if new.loss is None else f'{new.loss:.3g}',
        trial.verdict
    ]


def write_markdown(path: str, backbone: str, trials: list[Trial],
                   without: list[str]) -> None:
    """The table with its circumstances.

    Args:
        path (str): The file.
        backbone (str): What a ResNet was swapped to.
        trials (list[Trial]): Its lines.
        without (list[str]): Folders of MMDetection's configs without a
            backbone that can be swapped.
    """
    work = sum(trial.works for trial in trials)
    ours = sum(trial.ours for trial in trials)
    versions = ', '.join(
        f'{name} {version}' for name, version in (
            ('mmdet-scconv', __version__), ('torch', torch.__version__),
            ('mmengine', mmengine.__version__), ('mmcv', mmcv.__version__),
            ('mmdet', mmdet.__version__)))
    text = f'''\
# MMDetection's detectors with {backbone}

Of {len(trials)} configs {work} work, {ours} fail by the swap, and
{len(trials) - work - ours} fail as they come, too.

"Works": the detector is built with its ResNet or ResNeXt swapped, without
weights, nothing frozen; a training step on {NUM_IMAGES} images of noise has a
finite loss and gives every parameter of the backbone a finite gradient; a test
step has finite results. Nothing is said about accuracy. Stages with deformable
convolutions keep those. Where a config fails, the stock one was tried in the
same way; where that fails, too, both on larger images. Params: of the backbone
(a semi-supervised model has two); size: height and width of the images.

Made on the CPU by `tools/misc/try_backbone.py`, with {versions}.

'''
    text += markdown_table(COLUMNS, [
        [cell.replace('|', '\\|') for cell in table_row(trial)]
        for trial in trials
    ])
    if without:
        text += (
            '\nFrom each folder of MMDetection\'s configs: the one with the '
            'shortest name, r50 first, whose backbone is a ResNet or ResNeXt; '
            'others as named.\n\nFolders without a config that has one and '
            'loads here: '
            f'{", ".join(without)}.\n')
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text)
