"""Any checkpoint, read without running code from it; what was loaded."""
from .checkpoint import read_state_dict
from .loading import (
    LoadReport,
    Pretrained,
    load_pretrained,
    prepare_pretrained,
    pretrained_cfgs,
)

__all__ = [
    'LoadReport', 'Pretrained', 'load_pretrained', 'prepare_pretrained',
    'pretrained_cfgs', 'read_state_dict'
]
