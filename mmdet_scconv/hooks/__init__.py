from .channels_last_hook import ChannelsLastHook
from .check_classes_hook import CheckClassesHook
from .check_loss_hook import CheckLossHook
from .check_pretrained_hook import CheckPretrainedHook
from .compile_hook import CompileHook
from .deploy_hook import DeployHook
from .epoch_length_hook import EpochLengthHook
from .epoch_seed_hook import EpochSeedHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .warm_start_hook import WarmStartHook

__all__ = [
    'ChannelsLastHook', 'CheckClassesHook', 'CheckLossHook',
    'CheckPretrainedHook', 'CompileHook', 'DeployHook', 'EpochLengthHook',
    'EpochSeedHook', 'SafeCheckpointHook', 'WarmStartHook'
]
