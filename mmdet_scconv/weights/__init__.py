from .pretrained import prepare_pretrained

__all__ = ['prepare_pretrained']
