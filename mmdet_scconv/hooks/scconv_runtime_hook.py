"""Adds the hooks that protect a training to any config, by one line."""
from mmdet.registry import HOOKS
from mmengine.hooks import CheckpointHook, Hook

from .channels_last_hook import ChannelsLastHook
from .check_loss_hook import CheckLossHook
from .check_pretrained_hook import CheckPretrainedHook
from .check_start_hook import CheckStartHook
from .epoch_length_hook import EpochLengthHook
from .epoch_seed_hook import EpochSeedHook
from .keep_memory_hook import KeepMemoryHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .warm_start_hook import WarmStartHook

HOOKS_OF_A_RUN = {  # and their arguments
    CheckPretrainedHook: {},
    CheckStartHook: {},
    WarmStartHook: {},
    CheckLossHook: {},
    EpochLengthHook: {},
    EpochSeedHook: {},
    KeepMemoryHook: {},
    ChannelsLastHook: dict(devices='cpu'),
}


@HOOKS.register_module()
class SCConvRuntimeHook(Hook):
    """Adds the hooks that protect a training, and two for speed.

    ``custom_hooks = [dict(type='SCConvRuntimeHook')]`` in any config, with
    any ``train.py``:

    - CheckPretrainedHook: pretrained weights exist and hold only data.
    - CheckStartHook: the same for ``load_from`` and the resumed checkpoint.
    - WarmStartHook: swapped convolutions are fitted to the dense ones with
      images of the training set.
    - CheckLossHook: stops at the first loss that is not a number.
    - EpochLengthHook: logs the number of iterations of an epoch.
    - EpochSeedHook: a resumed training equals an uninterrupted one.
    - KeepMemoryHook: on a CPU, freed memory is used again.
    - ChannelsLastHook: on a CPU, backbone and neck work in channels_last.
    - SafeCheckpointHook, with the settings of ``default_hooks.checkpoint``:
      a checkpoint file is complete or does not exist.

    If the config has a hook of one of these classes already, that is kept; so
    is a checkpoint hook of another class than MMEngine's.
    """

    # runs first: MMEngine iterates over the list of hooks while this one adds
    # to it
    priority = 'HIGHEST'

    def before_run(self, runner) -> None:
        hooks = runner.hooks
        before = list(hooks)
        for i, hook in enumerate(hooks):
            if type(hook) is CheckpointHook:
                hooks[i] = SafeCheckpointHook.with_settings_of(hook)
        for added, args in HOOKS_OF_A_RUN.items():
            if not any(isinstance(hook, added) for hook in hooks):
                runner.register_hook(added(**args))
        added = [type(hook).__name__ for hook in hooks if hook not in before]
        if added:
            runner.logger.info(f'SCConvRuntimeHook adds {", ".join(added)}')
