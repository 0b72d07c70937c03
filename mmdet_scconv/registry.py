"""Where what this package registers is found.

- Layers, in MMEngine's root registry: any MM library builds them by name,
  e.g. ``conv_cfg=dict(type='SCConv')``.
- Backbones, data sets, hooks, metrics: in MMDetection's. Configs of another
  default scope name them with it, e.g. ``type='mmdet.DeployHook'``.
- The initialiser, in a registry of this package, which MMEngine finds by
  this file's name where an ``init_cfg`` says ``_scope_='mmdet_scconv'``. It
  has to be called 'Pretrained', as MMEngine applies an ``init_cfg`` of this
  type alone after those of the children; in MMDetection's registry it would
  take the place of MMEngine's in every model.
"""
from mmengine.registry import MODELS, Registry
from mmengine.registry import WEIGHT_INITIALIZERS as ROOT_WEIGHT_INITIALIZERS

from . import layers

WEIGHT_INITIALIZERS = Registry(
    'weight initializer',
    parent=ROOT_WEIGHT_INITIALIZERS,
    scope='mmdet_scconv',
    locations=['mmdet_scconv.pretrained'])

for _name in layers.__all__:
    MODELS.register_module(module=getattr(layers, _name))
