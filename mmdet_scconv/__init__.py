"""SCConv for MMDetection; importing the package registers everything.

In a config: ``custom_imports = dict(imports=['mmdet_scconv'],
allow_failed_imports=False)``.
"""
from .stack import check_stack
from .version import __version__

check_stack()

from . import backbones, datasets, hooks, layers, weights  # noqa: E402

__all__ = [
    '__version__', 'backbones', 'datasets', 'hooks', 'layers', 'weights'
]
