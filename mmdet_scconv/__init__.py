"""SCConv for MMDetection; importing the package registers everything.

In a config: ``custom_imports = dict(imports=['mmdet_scconv'],
allow_failed_imports=False)``.
"""
from .stack import check_stack
from .version import __version__

check_stack()

from . import (  # noqa: E402
    backbones,
    classification,
    datasets,
    hooks,
    layers,
    weights,
)

__all__ = [
    '__version__', 'backbones', 'classification', 'datasets', 'hooks',
    'layers', 'weights'
]
