"""One convolution built in place of another."""
import math
from functools import partial

from mmcv.cnn import build_conv_layer, build_norm_layer
from mmengine.registry import MODELS as ROOT_MODELS
from torch import nn


def inner_norm(norm_cfg: dict, width: int) -> nn.Module:
    """Build the norm ``norm_cfg`` for ``width`` channels.

    The number of groups of a GroupNorm may not divide the width. Then it gets
    the greatest common divisor of both.
    """
    cfg = dict(norm_cfg)
    if cfg['type'] == 'GN':
        cfg['num_groups'] = math.gcd(cfg['num_groups'], width)
    return build_norm_layer(cfg, width)[1]


def class_of(conv_type: str | type) -> type | None:
    """The class of a convolution; a name is looked up as ``build_conv_layer``
    does, in the registry of the current scope, too. None if it is unknown."""
    if not isinstance(conv_type, str):
        return conv_type
    with ROOT_MODELS.switch_scope_and_registry(None) as registry:
        return registry.get(conv_type)


def swap_conv(conv: nn.Conv2d, cfg: dict, norm_cfg: dict) -> nn.Module:
    """Build the convolution ``cfg`` with the geometry of ``conv``.

    Args:
        conv (nn.Conv2d): The convolution to replace.
        cfg (dict): Type and options of the new one; it has ``conv``'s groups
            unless ``cfg`` names others.
        norm_cfg (dict): MM config of the norms inside the new one. Only a
            type that declares ``has_inner_norms = True`` gets them, as its
            ``norm_layer`` argument.

    Returns:
        nn.Module: Its ``out_channels`` may differ from ``conv``'s.
    """
    cfg = dict(cfg)
    groups = cfg.pop('groups', conv.groups)
    options = {}
    if getattr(class_of(cfg['type']), 'has_inner_norms', False):
        options['norm_layer'] = partial(inner_norm, norm_cfg)
    return build_conv_layer(
        cfg,
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=groups,
        bias=conv.bias is not None,
        **options)
