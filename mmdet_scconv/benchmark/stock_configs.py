"""MMDetection's own configs, and their backbones swapped."""
from pathlib import Path

import mmdet
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config

STOCK_CONFIGS = Path(mmdet.__path__[0], '.mim', 'configs')
SWAPPABLE = ('ResNet', 'ResNetV1d', 'ResNeXt')


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


def remove_weights(model: dict) -> None:
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
            remove_weights(part)


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
