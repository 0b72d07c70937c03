"""MMDetection's configs, and how their backbones are swapped."""
import inspect
from collections.abc import Iterator
from pathlib import Path

import mmdet
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config

STOCK_CONFIGS = Path(mmdet.__path__[0], '.mim', 'configs')
SWAPPABLE = ('ResNet', 'ResNetV1d', 'ResNeXt')
# the swap of any backbone
ANY = 'Swapped'
# nothing is frozen
TRAINED = dict(frozen_stages=-1, norm_eval=False)


def options_of(backbone: str) -> dict:
    """Arguments of a registered backbone and their defaults, with those of its
    bases that it passes on."""
    options = {}
    for cls in getattr(MODELS.get(backbone), '__mro__', ()):
        if '__init__' in vars(cls):
            given = inspect.signature(cls.__init__).parameters.values()
            options = {p.name: p.default for p in given} | options
            if not any(p.kind is p.VAR_KEYWORD for p in given):
                break
    return options


def swapped_convs_of(backbone: dict) -> dict:
    """The config of any backbone, swapped by :func:`build_swapped`."""
    options = options_of(backbone['type'])
    trained = {name: value for name, value in TRAINED.items()
               if name in options}
    if 'frozen_stages' in trained:  # EfficientNet freezes nothing at 0
        trained['frozen_stages'] = options['frozen_stages']
    return dict(type=ANY, module={**backbone, **trained},
                conv=dict(type='SCConv'))


def swapped(backbone: dict, name: str) -> dict:
    """The config of a backbone, of type ``name`` instead.

    It is as a user without weights for the new convolutions would write it:
    nothing is frozen and BatchNorm is trained, for which an ``eps`` of 0 is
    replaced by its default. A ResNetV1d is replaced by its two options. Stages
    with deformable convolutions keep them.

    Args:
        backbone (dict): Of type ResNet, ResNetV1d or ResNeXt; of any for
            'Swapped'.
        name (str): E.g. 'SCConvResNet'; the one for a ResNeXt is found by
            its name, 'SCConvResNeXt'. 'Swapped' swaps the convolutions of
            the backbone that is there.

    Raises:
        ValueError: If there is no such backbone for a ResNeXt.
    """
    if name == ANY:
        return swapped_convs_of(backbone)
    old = backbone['type']
    if old == 'ResNeXt':
        name = name.replace('ResNet', 'ResNeXt')
    if MODELS.get(name) is None:
        raise ValueError(f'backbone {name!r} for a {old} does not exist')
    new = {**backbone, 'type': name, **TRAINED}
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


def can_be_swapped(backbone: dict, name: str | None) -> bool:
    """Whether a backbone's config can be swapped for type ``name``."""
    return name == ANY or backbone.get('type') in SWAPPABLE


def type_of(backbone: dict) -> str:
    """The type of a backbone's config, and of what is in a ``Swapped``."""
    inner = f" {backbone['module']['type']}" if 'module' in backbone else ''
    return backbone['type'] + inner


def swap_in_model(model: dict, name: str | None) -> str:
    """Swap, in place, all backbones that can be swapped.

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
    if name is not None and not any(
            can_be_swapped(part['backbone'], name) for part in parts):
        raise ValueError(f'model type={model["type"]!r} with backbones '
                         f'{types}: none of them is {" or ".join(SWAPPABLE)}')
    for part in parts:
        if name is not None and can_be_swapped(part['backbone'], name):
            part['backbone'] = ConfigDict(swapped(part['backbone'], name))
    return ' + '.join(type_of(part['backbone']) for part in parts)


def remove_weights(model: dict) -> None:
    """Remove, in place, all settings that load weights; find the teacher's
    config in the installed MMDetection."""
    for key in ('pretrained', 'teacher_ckpt'):
        if key in model:
            model[key] = None
    if isinstance(model.get('teacher_config'), str):
        model['teacher_config'] = str(STOCK_CONFIGS.parent /
                                      model['teacher_config'])
    # PVT's has no type
    if any(word in str(model.get('init_cfg'))
           for word in ('Pretrained', 'checkpoint')):
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


def stock_models(folder: Path) -> Iterator[tuple[str, dict]]:
    """Name and model of the configs in one of MMDetection's folders, of those
    that can be loaded here: first those with ``r50`` in their name, then by
    length of the name, then in alphabetical order."""
    files = sorted(
        folder.glob('*.py'),
        key=lambda path: ('r50' not in path.name, len(path.name), path.name))
    for path in files:
        try:
            model = Config.fromfile(path).get('model')
        except (ImportError, FileNotFoundError):
            continue  # needs a package, or a base that is not shipped
        if model is not None:
            yield f'mmdet::{folder.name}/{path.name}', model


def stock_folders() -> list[Path]:
    return [folder for folder in sorted(STOCK_CONFIGS.iterdir())
            if folder.is_dir() and not folder.name.startswith('_')]


def representatives() -> tuple[list[str], list[str]]:
    """One stock config for each folder of MMDetection's: the first of
    :func:`stock_models` that has a ResNet or ResNeXt.

    Returns:
        tuple: The configs, as ``mmdet::FOLDER/NAME.py``; and the folders
        that have none.
    """
    configs, without = [], []
    for folder in stock_folders():
        for name, model in stock_models(folder):
            if any(can_be_swapped(part['backbone'], None)
                   for part in backbones_in(model)):
                configs.append(name)
                break
        else:
            without.append(folder.name)
    return configs, without


def other_backbones() -> list[str]:
    """One stock config, as ``mmdet::FOLDER/NAME.py``, for each class of
    backbone that is no ResNet or ResNeXt: the detector with the shortest name
    (the first in the alphabet of equally short ones)."""
    found = {}
    for folder in stock_folders():
        for name, model in stock_models(folder):
            backbone = model.get('backbone')
            if isinstance(backbone, dict) and backbone.get(
                    'type') not in SWAPPABLE:
                found.setdefault(backbone['type'], []).append(name)
    return [min(names, key=lambda name: (len(Path(name).name), name))
            for names in found.values()]
