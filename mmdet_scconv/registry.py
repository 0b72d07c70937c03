"""Registries of this package, children of MMEngine's.

MMEngine finds them by this file's name, when a config says
``_scope_='mmdet_scconv'``.
"""
from mmengine.registry import WEIGHT_INITIALIZERS as ROOT_WEIGHT_INITIALIZERS
from mmengine.registry import Registry

WEIGHT_INITIALIZERS = Registry(
    'weight initializer',
    parent=ROOT_WEIGHT_INITIALIZERS,
    scope='mmdet_scconv',
    locations=['mmdet_scconv.weights'])
