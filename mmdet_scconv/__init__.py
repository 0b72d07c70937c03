"""SCConv for MMDetection; importing the package registers everything.

In a config: ``custom_imports = dict(imports=['mmdet_scconv'],
allow_failed_imports=False)``.

Where only torch is installed, only ``mmdet_scconv.layers`` can be imported.
"""
from . import stack
from .version import __version__

if stack.is_torch_alone():
    stack.check_torch()
    from . import layers

    __all__ = ['__version__', 'layers']
else:
    stack.check_stack()
    from . import (
        backbones,
        classification,
        datasets,
        hooks,
        layers,
        pretrained,
        registry,
    )

    __all__ = [
        '__version__', 'backbones', 'classification', 'datasets', 'hooks',
        'layers', 'pretrained', 'registry'
    ]


def __getattr__(name: str):
    """Say what to install where only torch is installed."""
    if name in ('backbones', 'classification', 'datasets', 'hooks',
                'pretrained'):
        stack.check_stack()
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
