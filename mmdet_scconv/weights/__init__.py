from .pretrained import CheckPretrainedHook, prepare_pretrained

__all__ = ['CheckPretrainedHook', 'prepare_pretrained']
