"""Random numbers that do not depend on interruptions."""
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, IterBasedTrainLoop, set_random_seed

from .train_loader import rebuild_train_loader


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds each epoch with the run's seed plus the epoch's number; in an
    iteration-based training each iteration.

    A checkpoint holds no state of random number generators, and MMEngine seeds
    a resumed run as a new one. With this hook the sampling of boxes, and all
    that is random in the main process, continue as without the interruption;
    so do the loader's workers unless they persist over epochs. With
    ``randomness=dict(deterministic=True)`` they do not: new ones start in each
    epoch. In an iteration-based training they always persist: there a resumed
    run equals an uninterrupted one only with ``num_workers=0``; a warning says
    so.
    """

    priority = 'VERY_HIGH'

    def seed(self, runner, step: int) -> None:
        randomness = dict(runner._randomness_cfg)
        randomness['seed'] = runner.seed + step
        set_random_seed(**randomness)

    def by_iteration(self, runner) -> bool:
        # not built if only a validation is run
        return isinstance(runner._train_loop, IterBasedTrainLoop)

    def before_run(self, runner) -> None:
        if (isinstance(runner._train_loop, BaseLoop)
                and not self.by_iteration(runner)
                and runner._randomness_cfg.get('deterministic')
                and runner.train_dataloader.persistent_workers):
            rebuild_train_loader(runner, persistent_workers=False)

    def before_train_epoch(self, runner) -> None:
        if not self.by_iteration(runner):
            if runner.epoch > 0:
                self.seed(runner, runner.epoch)
        elif runner.iter > 0:  # resumed
            self.seed(runner, runner.iter)
            workers = runner.train_dataloader.num_workers
            if workers > 0:
                runner.logger.warning(
                    f"The loader's {workers} workers draw other random "
                    'numbers than without the interruption. Where a resumed '
                    'run has to equal an uninterrupted one bit for bit, train '
                    'by epochs, or with train_dataloader.num_workers=0')

    # An iteration's data is loaded before its other hooks are called: after
    # the last iteration or the validation that follows it.

    def before_train_iter(self, runner, batch_idx: int,
                          data_batch: dict = None) -> None:
        if self.by_iteration(runner):
            self.seed(runner, runner.iter)

    def after_train_iter(self, runner, batch_idx: int, data_batch: dict = None,
                         outputs: dict = None) -> None:
        if self.by_iteration(runner):
            self.seed(runner, runner.iter + 1)

    def after_val(self, runner) -> None:
        if self.by_iteration(runner):
            self.seed(runner, runner.iter)
