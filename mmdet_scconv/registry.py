"""Registries of this package, children of MMEngine's, and its layers in
MMEngine's own: any MM library builds them by name, e.g.
``conv_cfg=dict(type='SCConv')``.

MMEngine finds them by this file's name, when a config says
``_scope_='mmdet_scconv'``.
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
