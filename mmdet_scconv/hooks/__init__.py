from .channels_last_hook import ChannelsLastHook
from .check_loss_hook import CheckLossHook
from .check_pretrained_hook import CheckPretrainedHook
from .epoch_seed_hook import EpochSeedHook
from .safe_checkpoint_hook import SafeCheckpointHook

__all__ = [
    'ChannelsLastHook', 'CheckLossHook', 'CheckPretrainedHook',
    'EpochSeedHook', 'SafeCheckpointHook'
]
