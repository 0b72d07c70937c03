"""Loads pretrained weights into a module, and tells what was loaded."""
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from mmdet.registry import WEIGHT_INITIALIZERS
from mmengine.logging import print_log
from mmengine.model import BaseModule, PretrainedInit, update_init_info
from torch import Tensor, nn

from ..errors import CheckpointError, NoCheckpointError
from .checkpoint import read_state_dict
from .download import TORCHVISION, is_known, local_file, resolve_name
from .key_names import find_prefixes
from .reader import read_file

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


def some(names: Sequence[str], limit: int = 4) -> str:
    """The first names of a list, for a message."""
    rest = len(names) - limit
    return ', '.join(names[:limit]) + (f', and {rest} more' if rest > 0 else
                                       '')


@dataclass
class LoadReport:
    """What was loaded from a checkpoint into a module. Names are the module's.

    BatchNorm's step counters are left out everywhere, and so is the file's
    classifier (``fc.``) if the module has none.
    """

    module: str
    """Class of the module."""
    checkpoint: str
    prefix: str
    """What precedes the module's names in the file, e.g. 'backbone.'."""
    matched: list[str] = field(default_factory=list)
    """Tensors that were loaded."""
    missing: list[str] = field(default_factory=list)
    """Tensors of the module that were not: these stay as they were."""
    unexpected: list[str] = field(default_factory=list)
    """Tensors under the prefix in the file that the module does not have."""
    wrong_shape: dict[str, tuple] = field(default_factory=dict)
    """Shape in the file and in the module."""
    dense: list[str] = field(default_factory=list)
    """Tensors in the file for a convolution that was swapped."""
    other_prefixes: list[str] = field(default_factory=list)
    """Prefixes that would have fitted as well as the one taken."""
    swapped: list[str] = field(default_factory=list)
    """Swapped convolutions of the module."""
    to_be_fitted: bool = False
    """Whether these are fitted to the dense ones when a training starts."""

    def random_convs(self) -> list[str]:
        """Swapped convolutions with a tensor that was not loaded."""
        return [name for name in self.swapped
                if any(key.startswith(name + '.') for key in self.missing)]

    def start_of_swapped(self) -> str:
        """A text about the initial weights of the swapped convolutions."""
        random = len(self.random_convs())
        text = f'swapped convolutions: {random} of {len(self.swapped)}'
        if self.to_be_fitted:
            return (f'{text} are not in the file; they are fitted to its '
                    'dense ones when a training starts')
        return f'{text} are randomly initialised' + (
            f'; {len(self.dense)} tensors of dense convolutions not used'
            if self.dense else '')

    def lines(self) -> Iterator[tuple[int, str]]:
        """The report in a few lines, each with its logging level."""
        total = len(self.matched) + len(self.missing)
        yield logging.INFO, (
            f'{self.module} from {self.checkpoint}: {len(self.matched)} of '
            f'{total} tensors loaded, {len(self.missing)} missing, '
            f'{len(self.unexpected)} unexpected, {len(self.wrong_shape)} of '
            f'wrong shape; prefix in the file: {self.prefix!r}')
        if self.swapped:
            yield logging.INFO, self.start_of_swapped()
        inside = tuple(name + '.' for name in self.swapped)
        besides = [key for key in self.missing if not key.startswith(inside)]
        for title, names in (
            ('missing in the file', besides),
            ('unexpected, not loaded', self.unexpected),
            ('of wrong shape, not loaded',
             list(map(self.shapes, self.wrong_shape))),
            ('the same names also lie under other prefixes',
             self.other_prefixes)):
            if names:
                yield logging.WARNING, f'{title} ({len(names)}): {some(names)}'

    def shapes(self, name: str) -> str:
        """A text about a tensor of wrong shape."""
        in_file, in_module = self.wrong_shape[name]
        return f'{name} {in_file} in the file, {in_module} in the module'

    def log(self) -> None:
        for level, line in self.lines():
            print_log(line, logger='current', level=level)

    def __str__(self) -> str:
        return '\n'.join(line for _, line in self.lines())


def weights_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items()
            if isinstance(value, Tensor) and not key.endswith(COUNTER)}


def nothing_matched(report: LoadReport, keys: Sequence[str],
                    names: Sequence[str], found: Sequence[str]) -> str:
    hint = ('' if report.prefix in found or not found else
            f'; the names lie under prefix={found[0]!r}')
    return (f'{report.checkpoint} has no weights for {report.module} under '
            f'prefix={report.prefix!r}{hint}. In the file: '
            f'{some(keys)}. In the module: {some(names)}')


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
