"""Logs the length of an epoch."""
from mmdet.registry import HOOKS
from mmengine.hooks import Hook

EPOCH_LENGTH = 'iters_per_epoch'


@HOOKS.register_module()
class EpochLengthHook(Hook):
    """Logs the number of iterations of an epoch before the training.

    MMEngine's logged values (``vis_data/scalars.json``) have only the epoch
    and the iteration, which do not tell how much of an epoch is done.
    """

    def before_train(self, runner) -> None:
        runner.visualizer.add_scalar(
            EPOCH_LENGTH, len(runner.train_dataloader), runner.iter)
