"""Checkpoints that survive a kill, a power cut and a full disk."""
import os
import os.path as osp
import shutil
from contextlib import contextmanager, suppress
from glob import escape, glob

from mmdet.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ..atomic import PART, AtomicBackend, write_atomically


class RemoveLater(AtomicBackend):
    """Collects files to be removed when the new one is complete."""

    def __init__(self) -> None:
        self.outdated = []

    def remove(self, filepath: str) -> None:
        self.outdated.append(filepath)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's CheckpointHook, whose files are complete or do not exist.

    MMEngine first removes the checkpoint that exceeds ``max_keep_ckpts``, then
    writes the new one in place. Here a checkpoint gets its name when it is on
    the disk, then ``last_checkpoint`` is replaced, then the outdated one is
    removed; so the disk must hold one more than ``max_keep_ckpts``. Takes
    CheckpointHook's arguments. Storage other than local files, or with
    ``backend_args`` in the config, is left to MMEngine; so are the checkpoints
    of FlexibleRunner, whose strategies (DeepSpeed, ...) write them in their
    own ways, some as folders.
    """

    @classmethod
    def with_settings_of(cls, hook: CheckpointHook) -> 'SafeCheckpointHook':
        """A hook with the settings of ``hook``."""
        safe = cls()
        vars(safe).update(vars(hook))
        return safe

    def before_train(self, runner) -> None:
        super().before_train(runner)
        self.local = (isinstance(runner, Runner)
                      and type(self.file_backend) is LocalBackend
                      and self.backend_args is None
                      and self.file_client_args is None)
        if not self.local:
            runner.logger.warning(
                'SafeCheckpointHook leaves the checkpoints to MMEngine '
                f'({type(runner).__name__}, backend_args='
                f'{self.backend_args}): a kill while one is written can '
                'leave a part of it')
            return
        self.backend_args = dict(backend='atomic')
        self.file_backend = AtomicBackend()
        if is_main_process():  # left by a killed process
            for part in glob(osp.join(escape(self.out_dir), f'*.pth{PART}')):
                os.remove(part)

    @contextmanager
    def explain_full_disk(self, runner):
        """
        Raises:
            OSError: If the file cannot be written; names the last good one.
        """
        last = osp.join(runner.work_dir, 'last_checkpoint')
        try:
            yield
        except OSError as error:
            kept = 'There is no earlier checkpoint.'
            if osp.isfile(last):
                with open(last) as f:
                    kept = f'The last good checkpoint, {f.read()}, is kept.'
            free = shutil.disk_usage(self.out_dir).free / 2**20
            raise OSError(
                error.errno,
                f'{error.strerror}: the checkpoint could not be written to '
                f'{self.out_dir}, which has {free:.0f} MiB free. {kept} Make '
                'room (an old run? default_hooks.checkpoint.max_keep_ckpts?) '
                'and run the same command with --resume') from error

    def _save_checkpoint_with_step(self, runner, step, meta) -> None:
        if not self.local:
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        outdated = None
        # a new best one saves the same step a second time
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated = self.keep_ckpt_ids.popleft()
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids',
                                           list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = osp.join(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        with self.explain_full_disk(runner):
            runner.save_checkpoint(
                self.out_dir,
                name,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args)
            if is_main_process():
                write_atomically(
                    osp.join(runner.work_dir, 'last_checkpoint'),
                    self.last_ckpt.encode())
        if is_main_process() and outdated is not None:
            with suppress(FileNotFoundError):
                os.remove(
                    osp.join(self.out_dir,
                             self.filename_tmpl.format(outdated)))

    def _save_best_checkpoint(self, runner, metrics) -> None:
        if not self.local:
            super()._save_best_checkpoint(runner, metrics)
            return
        self.file_backend = RemoveLater()
        with self.explain_full_disk(runner):
            super()._save_best_checkpoint(runner, metrics)
        best = [
            value for key, value in runner.message_hub.runtime_info.items()
            if key.startswith('best_ckpt')
        ]
        for path in self.file_backend.outdated:
            if path not in best:
                os.remove(path)
