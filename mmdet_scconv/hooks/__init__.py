from .channels_last_hook import ChannelsLastHook
from .check_classes_hook import CheckClassesHook
from .check_loss_hook import CheckLossHook
from .check_pretrained_hook import CheckPretrainedHook
from .check_start_hook import CheckStartHook
from .compile_hook import CompileHook
from .deploy_hook import DeployHook
from .epoch_length_hook import EpochLengthHook
from .epoch_seed_hook import EpochSeedHook
from .keep_memory_hook import KeepMemoryHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .scconv_runtime_hook import SCConvRuntimeHook
from .warm_start_hook import WarmStartHook

__all__ = [
    'ChannelsLastHook', 'CheckClassesHook', 'CheckLossHook',
    'CheckPretrainedHook', 'CheckStartHook', 'CompileHook', 'DeployHook',
    'EpochLengthHook', 'EpochSeedHook', 'KeepMemoryHook', 'SCConvRuntimeHook',
    'SafeCheckpointHook', 'WarmStartHook'
]
