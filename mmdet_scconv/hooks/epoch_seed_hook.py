"""Random numbers that do not depend on interruptions."""
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import set_random_seed


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds each epoch with the run's seed plus the epoch's number.

    A checkpoint holds no state of random number generators, and MMEngine
    seeds a resumed run as a new one. With this hook the sampling of boxes and
    what is random in the main process go on as without the interruption; so
    do the loader's workers unless they persist over epochs.
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner) -> None:
        if runner.epoch > 0:
            randomness = dict(runner._randomness_cfg)
            randomness['seed'] = runner.seed + runner.epoch
            set_random_seed(**randomness)
