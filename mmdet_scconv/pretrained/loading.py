"""Loads pretrained weights into a module, and tells what was loaded."""
from collections.abc import Mapping

import torch
from mmdet.registry import WEIGHT_INITIALIZERS
from mmengine.model import BaseModule, PretrainedInit, update_init_info
from torch import Tensor, nn

from ..errors import CheckpointError, NoCheckpointError
from .checkpoint import read_state_dict
from .download import TORCHVISION, is_known, local_file, resolve_name
from .key_names import find_prefixes
from .reader import read_file
from .report import LoadReport, nothing_matched, some

# A ResNet's classifier, which no detector has.
CLASSIFIER = 'fc.'
# BatchNorm's step counter: older checkpoints lack it, nothing here uses it.
COUNTER = 'num_batches_tracked'


def is_pretrained(cfg: dict) -> bool:
    return cfg.get('type') in (
        'Pretrained', PretrainedInit, 'CheckedPretrained',
        'mmdet.CheckedPretrained', CheckedPretrained)


def pretrained_cfgs(module: BaseModule) -> list[dict]:
    """The entries of a module's ``init_cfg`` that load a checkpoint."""
    cfgs = module.init_cfg or []
    return list(filter(is_pretrained,
                       [cfgs] if isinstance(cfgs, dict) else cfgs))


def use_checked_pretrained(module: BaseModule) -> None:
    """Let :class:`CheckedPretrained` load a module's checkpoints, after its
    other initialisers, as MMEngine loads them."""
    for cfg in pretrained_cfgs(module):
        # an existing scope was inherited from an mmdet:: base
        cfg.update(type='CheckedPretrained', _scope_='mmdet')
    if isinstance(module.init_cfg, list):
        module.init_cfg.sort(key=is_pretrained)


def prepare_pretrained(module: BaseModule, local: bool = False) -> None:
    """Make the ``Pretrained`` checkpoints of a module available.

    ``torchvision://`` names become URLs, without torchvision too, and URLs
    are downloaded to torch's cache.

    Args:
        module (BaseModule): Its ``init_cfg`` is changed.
        local (bool): Whether URLs are replaced by the names of the downloaded
            files, for modules that MMEngine loads: it uses only the last part
            of a URL, which other URLs may have, too. Defaults to False.

    Raises:
        NoCheckpointError: If a file does not exist, or a URL cannot be
            downloaded; says which file to put where.
        CheckpointError: For an unknown name or scheme; with ``local`` also
            for a file that is damaged or could run code, as MMEngine would
            run it.
    """
    for cfg in pretrained_cfgs(module):
        if cfg['checkpoint'].startswith(TORCHVISION):
            cfg['checkpoint'] = resolve_name(cfg['checkpoint'])
        if not is_known(cfg['checkpoint']):
            continue  # MMEngine's own loader may know it
        try:
            path = local_file(cfg['checkpoint'])
        except NoCheckpointError as error:
            raise NoCheckpointError(
                f'The pretrained weights of {type(module).__name__}: {error}\n'
                'Name a file that you have, e.g. --cfg-options '
                'model.backbone.init_cfg.checkpoint=FILE') from error
        if local:
            cfg['checkpoint'] = path
            read_file(path)


def weights_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items()
            if isinstance(value, Tensor) and not key.endswith(COUNTER)}


def load_pretrained(module: nn.Module,
                    checkpoint: str,
                    prefix: str | None = None,
                    skip_wrong_shapes: bool = False) -> LoadReport:
    """Load the tensors of a checkpoint that a module has a place for.

    A module with replaced parts may declare them by two attributes:
    ``swapped_convs`` (their names) and ``dense_shapes`` (the shapes by name
    before). Tensors of the file that fit what was replaced are then no error;
    the module's method ``keep_dense`` is given the file's tensors.

    Args:
        module (nn.Module): Any.
        checkpoint (str): See :func:`read_state_dict`.
        prefix (str, optional): Prefix of the module's names in the file,
            'backbone' or 'backbone.'. Defaults to the prefix of most of them
            ('' or 'backbone.' or 'module.backbone.' ...).
        skip_wrong_shapes (bool): Whether tensors of another shape stay as they
            are in the module; False is an error. Defaults to False.

    Returns:
        LoadReport: What was loaded and what not.

    Raises:
        CheckpointError: If the file is not there, damaged or no checkpoint,
            nothing in it fits, or shapes differ; the module is then
            unchanged.
    """
    source = weights_of(read_state_dict(checkpoint))
    own = weights_of(module.state_dict())
    dense_shapes = getattr(module, 'dense_shapes', {})
    found = find_prefixes(source, {*own, *dense_shapes})
    if prefix is None:
        prefix = found[0] if found else ''
    elif prefix and not prefix.endswith('.'):
        prefix += '.'
    report = LoadReport(
        type(module).__name__,
        checkpoint,
        prefix,
        other_prefixes=[other for other in found if other != prefix]
        if prefix in found else [],
        swapped=list(getattr(module, 'swapped_convs', [])))
    matched = {}
    classifies = any(name.startswith(CLASSIFIER) for name in own)
    for key, value in source.items():
        name = key[len(prefix):]
        if not key.startswith(prefix):
            continue
        if name.startswith(CLASSIFIER) and not classifies:
            continue
        if name in own and value.shape == own[name].shape:
            matched[name] = value
        elif value.shape == dense_shapes.get(name):
            report.dense.append(name)
        elif name in own:
            report.wrong_shape[name] = (tuple(value.shape),
                                        tuple(own[name].shape))
        else:
            report.unexpected.append(name)
    report.matched = list(matched)
    report.missing = [name for name in own if name not in matched]
    if report.wrong_shape and not skip_wrong_shapes:
        lines = some(list(map(report.shapes, report.wrong_shape)), limit=8)
        raise CheckpointError(
            f'{checkpoint} does not fit {report.module}: '
            f'{len(report.wrong_shape)} tensors have another shape and '
            f'{len(matched)} fit, under prefix={prefix!r}. {lines}. Is it for '
            'another depth, width or option? skip_wrong_shapes=True leaves '
            'these as initialised')
    if not matched:
        raise CheckpointError(
            nothing_matched(report, list(source), list(own), found))
    module.load_state_dict(matched, strict=False)
    if report.dense:
        module.keep_dense(source, prefix)
        report.to_be_fitted = module.to_be_fitted()
    return report


@WEIGHT_INITIALIZERS.register_module()
class CheckedPretrained(PretrainedInit):
    """MMEngine's ``Pretrained``, with :func:`load_pretrained`.

    Backbones of this package use it for ``type='Pretrained'``; another module
    names it: ``init_cfg=dict(type='CheckedPretrained', checkpoint=...)``. The
    report is logged and kept as the module's ``load_report``.

    Args:
        checkpoint (str): See :func:`read_state_dict`.
        prefix (str, optional): See :func:`load_pretrained`.
        map_location (str): As MMEngine's, for configs that have it; the
            file is read to the CPU and copied to where the module is.
        skip_wrong_shapes (bool): See :func:`load_pretrained`.
    """

    def __init__(self,
                 checkpoint: str,
                 prefix: str | None = None,
                 map_location: str = 'cpu',
                 skip_wrong_shapes: bool = False) -> None:
        super().__init__(checkpoint, prefix, map_location)
        self.skip_wrong_shapes = skip_wrong_shapes

    @torch.no_grad()
    def __call__(self, module: nn.Module) -> None:
        # MMEngine initialises children before what it calls 'Pretrained', and
        # after anything else
        for child in module.children():
            if isinstance(child, BaseModule) and not child.is_init:
                child.init_weights()
        module.load_report = load_pretrained(module, self.checkpoint,
                                             self.prefix,
                                             self.skip_wrong_shapes)
        module.load_report.log()
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())
