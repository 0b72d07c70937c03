"""Registers the layers in MMEngine's root registry: any MM library builds
them by name, e.g. ``conv_cfg=dict(type='SCConv')``.

Backbones, data sets, hooks, metrics and the initialiser register themselves
in MMDetection's registries. Configs of another default scope name them with
it, e.g. ``type='mmdet.DeployHook'``.
"""
from mmengine.registry import MODELS

from . import layers

for _name in layers.__all__:
    MODELS.register_module(module=getattr(layers, _name))
