"""Checks the checkpoint that a run starts from."""
import logging
import os.path as osp
from collections.abc import Iterator, Mapping

from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import CheckpointError
from ..pretrained.download import is_known, local_file
from ..pretrained.reader import read_file
from ..pretrained.resume import check_resumable, find_resumable
from ..pretrained.whole import compare
from .model_parts import detector
from .train_loader import rebuild_train_loader


@HOOKS.register_module()
class CheckStartHook(Hook):
    """Checks ``load_from`` and the checkpoint that is resumed, before MMEngine
    loads them: they must be complete, and hold only data.

    - ``load_from``: how many tensors fit the model is logged. It is an error
      if none does: MMEngine would train from random weights.
    - A test with a dense network's checkpoint is an error, as its swapped
      convolutions would be random; one with other random weights is warned of.
    - ``resume=True`` without ``load_from``: the last good checkpoint of the
      work dir is taken; damaged ones are skipped with a warning.
    - A resumed training uses its original seed from the first image on.
      MMEngine sets the seed only after the order of the images is drawn.
    - Several hosts must resume from the same checkpoint.

    Storage that only MMEngine can read (``s3://``, ...) is not checked.
    Neither is FlexibleRunner, which loads before its hooks are called.
    """

    # before EpochSeedHook, which needs the seed
    priority = 'HIGHEST'

    def before_run(self, runner) -> None:
        """
        Raises:
            CheckpointError: If the checkpoint is not there, damaged, could
                run code, or cannot be resumed from; see :func:`log_start`;
                or if hosts differ in the checkpoint.
        """
        if not isinstance(runner, Runner) or runner._has_loaded:
            return
        if runner._resume:
            self.check_resume(runner)
        elif runner._load_from and is_known(runner._load_from):
            # MMEngine would look for the last part of a URL in torch's cache,
            # which other URLs may share
            runner._load_from = local_file(runner._load_from)
            content = read_file(runner._load_from)
            # other wrappers (FSDP) change names and shapes
            if (not is_model_wrapper(runner.model)
                    or isinstance(runner.model, DistributedDataParallel)):
                log_start(detector(runner),
                          content.get('state_dict', content),
                          runner._load_from, runner.logger,
                          testing=not isinstance(runner._train_loop, BaseLoop))

    def check_resume(self, runner: Runner) -> None:
        path = runner._load_from
        if path is None:
            path = find_resumable(runner.work_dir)
        elif is_known(path):
            path = local_file(path)
            check_resumable(path)
        check_same_start(path, runner.work_dir)
        runner._load_from, runner._resume = path, path is not None
        if path is not None and osp.isfile(path):
            checkpoint = read_file(path)
            use_seed(runner, checkpoint['meta'].get('seed'))
            for note in resume_notes(runner, checkpoint):
                runner.logger.warning(note)


def log_start(model: nn.Module, state_dict: Mapping, path: str,
              logger: logging.Logger, testing: bool = False) -> None:
    """Log what ``load_from`` has for the model, which is to be trained or
    tested.

    Raises:
        CheckpointError: If nothing in it fits, or a dense network's is to be
            tested.
    """
    found = compare(model, state_dict, path)
    if found.total and not found.fits:
        raise CheckpointError(
            f'load_from={path}: {found.nothing_fits()}. load_from needs the '
            'names of the whole model, at the top of the file or under '
            "'state_dict'; give weights of a backbone alone as checkpoint in "
            "the backbone's init_cfg=dict(type='Pretrained', checkpoint=FILE)")
    wrong = len(found.wrong_shape)
    line = f'{found.model} from load_from={path}: {found.summary()}'
    if found.dense:
        line += (f'. {len(found.dense)} swapped convolutions: the file has '
                 'the dense ones')
    logger.info(line)
    if testing and found.dense:
        found.check()
    if testing and found.missing:
        logger.warning(str(found))
    elif wrong:
        # also in a fine-tuning with other classes, where this is intended
        what = ('1 tensor is not loaded, as its shape differs'
                if wrong == 1 else
                f'{wrong} tensors are not loaded, as their shapes differ')
        logger.warning(f'load_from={path}: {what}. The first: '
                       f'{found.first_wrong_shape()}')


def use_seed(runner: Runner, seed: int | None) -> None:
    """Set the seed of a training whose config has none."""
    randomness = runner._randomness_cfg
    if seed is not None and randomness.get('seed') is None:
        randomness['seed'] = seed
        runner.set_randomness(**randomness)
        rebuild_train_loader(runner)


def resume_notes(runner: Runner, checkpoint: dict) -> Iterator[str]:
    """Notes for a user of ``--resume``: nothing is left to train, or the
    schedule is still that of the first training."""
    path = runner._load_from
    known = checkpoint['message_hub'].get('runtime_info', {})
    for key, unit in (('max_epochs', 'epoch'), ('max_iters', 'iter')):
        wanted = runner.cfg.get('train_cfg', {}).get(key)
        done = checkpoint['meta'].get(unit, 0)
        if wanted is None:
            continue
        if done >= wanted:
            yield (f'{path} is of {unit} {done} of {wanted}: nothing is left '
                   f'to train. For more: --cfg-options train_cfg.{key}=N')
        elif wanted != known.get(key, wanted) and runner.param_schedulers:
            yield (f'{path} is of a training with {key}={known[key]}, this '
                   f'one has {wanted}: the learning rate continues by the '
                   'schedule as it was saved. For a schedule of '
                   f'{wanted} start again from its weights: --cfg-options '
                   f'load_from={path}, another --work-dir, no --resume')


def check_same_start(path: str | None, work_dir: str) -> None:
    """
    Raises:
        CheckpointError: If the processes resume from different checkpoints,
            for example because each host has its own work dir.
    """
    names = all_gather_object(osp.basename(path) if path else None)
    if len(set(names)) > 1:
        other = next(name for name in names if name != names[0])
        raise CheckpointError(
            f'--resume finds {names[0] or "no checkpoint"} on the first host '
            f'and {other or "none"} on another: {work_dir} must be the same '
            'folder on all hosts, or a copy of it')
