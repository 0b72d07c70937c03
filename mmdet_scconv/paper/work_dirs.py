"""Reads a training's work dir: progress, scores, times."""
import json
import os.path as osp
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from mmengine.config import Config

from ..errors import UserError
from ..hooks.epoch_length_hook import EPOCH_LENGTH
from ..pretrained.resume import last_checkpoint

NOT_A_SCORE = ('step', 'epoch', 'iter', 'time', 'data_time', 'memory', 'lr',
               EPOCH_LENGTH)
CHECKPOINT = re.compile(r'(epoch|iter)_(\d+)\.pth')


class RunError(UserError):
    """A run that has failed, or that must not be started."""


def scores_of(entry: dict) -> dict[str, float]:
    """The evaluation's values in an entry of MMEngine's log; empty if nothing
    was detected."""
    return {key: value for key, value in entry.items()
            if key not in NOT_A_SCORE}


def test_metrics(work_dir: str) -> dict[str, float]:
    """The metrics that tools/test.py wrote to ``work_dir/test``; empty if
    there are none."""
    files = Path(work_dir, 'test').glob('*/*.json')
    for path in sorted(files, reverse=True):
        try:
            metrics = scores_of(json.loads(path.read_text()))
        except json.JSONDecodeError:  # truncated by a kill
            continue
        if metrics:
            return metrics
    return {}


def read_scalars(work_dir: str) -> Iterator[dict]:
    """Every entry of MMEngine's log, over all attempts of a training."""
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:  # truncated by a kill
                continue


def is_training(entry: dict) -> bool:
    return 'loss' in entry and 'iter' in entry


def after_training(entries: list[dict]) -> list[dict]:
    """The validations after the last training entry, last first."""
    return [
        e for e in takewhile(lambda e: not is_training(e), reversed(entries))
        if 'step' in e and EPOCH_LENGTH not in e
    ]


def epoch_length(entries: list[dict]) -> float | None:
    """Iterations of an epoch, None if the entries do not tell it yet.

    EpochLengthHook logs it. Without that hook it is the distance between the
    first entries of two epochs, as all epochs log at the same iterations.
    """
    told = [e[EPOCH_LENGTH] for e in entries if EPOCH_LENGTH in e]
    if told:
        return told[-1]
    first = {}
    for entry in filter(is_training, entries):
        if 'epoch' in entry:
            first.setdefault(entry['epoch'], entry['iter'])
    if len(first) < 2:
        return None
    begin, end = min(first), max(first)
    return (first[end] - first[begin]) / (end - begin)


def trained(work_dir: str, unit: str, entries: list[dict] | None = None
            ) -> float:
    """The progress of a training.

    Args:
        work_dir (str): Its folder.
        unit (str): 'epoch' or 'iteration'.
        entries (list): Of ``read_scalars``; None: read here.

    Returns:
        float: Epochs, with the part of the running one where the length of
            an epoch is known; or iterations.
    """
    if entries is None:
        entries = list(read_scalars(work_dir))
    checkpoint = CHECKPOINT.fullmatch(
        osp.basename(last_checkpoint(work_dir) or ''))
    # the end of an epoch is not logged; a checkpoint or a validation marks it
    saved = 0
    if checkpoint and unit.startswith(checkpoint[1]):
        saved = int(checkpoint[2])
    last = next(filter(is_training, reversed(entries)), None)
    if last is None:
        return saved
    if unit == 'iteration':
        return max(saved, last['iter'])
    epoch = last.get('epoch', 1)
    if any(e['step'] == epoch for e in after_training(entries)):
        return max(saved, epoch)
    length = epoch_length(entries)
    return max(saved,
               epoch - 1 if length is None else last['iter'] / length)


def training_length(cfg: Config, options: tuple[str, ...] = ()
                    ) -> tuple[int, str]:
    """The length of a config's training.

    Args:
        cfg (Config): The config.
        options (tuple): Settings ``key=value`` that override it.

    Returns:
        tuple: A number, and 'epoch' or 'iteration'.

    Raises:
        RunError: If it does not say.
    """
    for name, unit in (('max_epochs', 'epoch'), ('max_iters', 'iteration')):
        for option in options:
            key, _, value = option.partition('=')
            if key == f'train_cfg.{name}':
                return int(value), unit
        if name in cfg.train_cfg:
            return cfg.train_cfg[name], unit
    raise RunError(f'{cfg.filename}: train_cfg has no max_epochs or max_iters')


@dataclass
class Result:
    """The content of one work dir.

    ``metrics`` is empty for a run that is not finished; ``seconds`` is the
    median time of an iteration, ``seconds_per_epoch`` that of an epoch (an
    iteration, where those count), ``memory`` the largest use of a GPU in MB.
    ``model`` is the model of the dumped config, which has the options of the
    training merged in.
    """

    name: str
    config: str
    seed: int | None
    work_dir: str
    state: str
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    seconds_per_epoch: float | None = None
    memory: int | None = None
    environment: str = ''
    model: dict = field(default_factory=dict)


def read_environment(work_dir: str) -> str:
    """Device and torch version in MMEngine's log."""
    for path in sorted(Path(work_dir).glob('*/*.log'), reverse=True):
        text = path.read_text(errors='replace')
        version = re.search(r'^\s*PyTorch: (\S+)', text, re.M)
        if version is None:
            continue
        cuda = re.search(r'^\s*CUDA available: (\S+)', text, re.M)
        device = re.search(r'^\s*GPU [\d,]+: (.+)', text, re.M)
        on_gpu = cuda is not None and cuda[1] == 'True' and device is not None
        return f'{device[1] if on_gpu else "CPU"}, torch {version[1]}'
    return ''


def read_result(name: str, config: str, work_dir: str) -> Result:
    """Read a work dir of tools/train.py, also one that was copied here.

    Metrics are those of tools/test.py; without them, the validation's after
    the last epoch.

    Raises:
        RunError: If the config does not say how long it trains.
    """
    dumped = Config.fromfile(osp.join(work_dir, osp.basename(config)))
    wanted, unit = training_length(dumped)
    entries = list(read_scalars(work_dir))
    done = trained(work_dir, unit, entries)
    training = [e for e in entries if is_training(e) and 'time' in e]
    seconds = per_epoch = None
    if training:
        seconds = statistics.median(e['time'] for e in training)
        length = 1 if unit == 'iteration' else epoch_length(entries)
        per_epoch = None if length is None else seconds * length
    metrics = test_metrics(work_dir)
    if not metrics and done >= wanted:
        metrics = scores_of(next(iter(after_training(entries)), {}))
    return Result(
        name,
        config,
        dumped.get('randomness', {}).get('seed'),
        work_dir,
        'finished' if metrics else f'{round(done, 2):g} of {wanted} {unit}s',
        metrics,
        seconds, per_epoch,
        max((e['memory'] for e in training if 'memory' in e), default=None),
        read_environment(work_dir), dumped.model)


def find_results(name: str, config: str, root: str) -> Iterator[Result]:
    """Results of a config anywhere under ``root``: MMEngine leaves a copy of
    the config in each work dir, which tells them."""
    for path in sorted(Path(root).rglob(osp.basename(config))):
        if (path.parent / 'last_checkpoint').exists():
            yield read_result(name, config, str(path.parent))
