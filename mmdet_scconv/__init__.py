"""SCConv for MMDetection; importing the package registers everything.

In a config: ``custom_imports = dict(imports=['mmdet_scconv'],
allow_failed_imports=False)``.

Where torch alone is installed, ``mmdet_scconv.layers`` is all there is.
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
    """Says what to install where torch alone is."""
    if name in ('backbones', 'classification', 'datasets', 'hooks',
                'pretrained'):
        stack.check_stack()
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
