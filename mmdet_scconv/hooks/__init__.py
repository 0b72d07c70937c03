from .channels_last_hook import ChannelsLastHook
from .check_pretrained_hook import CheckPretrainedHook

__all__ = ['ChannelsLastHook', 'CheckPretrainedHook']
