from .checkpoint import read_state_dict
from .pretrained import (
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
