"""Builds a dense backbone with its weights, and the one to convert to."""
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mmdet.registry import MODELS
from mmengine.logging import MMLogger
from torch import Tensor, nn

from ..backbones import CIFARResNet, SwapResNet
from ..pretrained.key_names import resnet_settings, with_shortcuts
from .network import copy_weights, swapped_names

CIFAR_STEM = (3, 3)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress MMEngine's log line for each initialised weight."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def backbone_type(weights: Mapping[str, Tensor]) -> dict:
    """The backbone with SCConvs for the weights of a dense one."""
    if weights['conv1.weight'].shape[2:] == CIFAR_STEM:
        return dict(type='CIFARResNet', conv2_cfg=dict(type='SCConv'))
    if 'groups' in resnet_settings(weights):
        return dict(type='SCConvResNeXt')
    return dict(type='SCConvResNet')


def build_pair(weights: Mapping[str, Tensor],
               cfg: dict) -> tuple[nn.Module, SwapResNet]:
    """The dense backbone with its weights, and the one to convert to, with all
    of these weights except those of swapped convolutions.

    Args:
        weights (Mapping): Of :func:`.key_names.resnet_state_dict`.
        cfg (dict): Settings of the backbone; ``type``, ``depth``,
            ``base_channels`` and a ResNeXt's ``groups`` and ``base_width``
            follow from the weights where they are missing.

    Raises:
        ValueError: If the weights do not fit the settings.
    """
    settings = resnet_settings(weights)
    for name, value in settings.items():
        if cfg.get(name, value) != value:
            raise ValueError(f'{name}={cfg[name]!r} is not valid: the '
                             f'weights are of {name}={value}')
    default = {} if 'type' in cfg else backbone_type(weights)
    # nothing is trained as a backbone here, and nothing to warn about
    cfg = {**default, **cfg, **settings,
           'init_cfg': None, 'frozen_stages': -1, 'norm_eval': False}
    if 'conv2_cfg' in default:
        # a type that was given without options, or options without a type
        cfg['conv2_cfg'] = {**default['conv2_cfg'], **cfg['conv2_cfg']}
    backbone = MODELS.build(cfg)
    with quiet():
        backbone.init_weights()
    if isinstance(backbone, CIFARResNet):
        cfg.pop('conv2_cfg', None)
    else:
        cfg['stages_with_swap'] = (False, ) * backbone.num_stages
    dense = MODELS.build(cfg)
    if isinstance(dense, CIFARResNet):
        weights = with_shortcuts(weights, dense.state_dict())
    missing = [name for name in dense.state_dict() if name not in weights
               and not name.endswith('num_batches_tracked')]
    if missing:
        raise ValueError(f'{len(missing)} tensors are missing from the '
                         f'weights, e.g. {missing[0]!r}')
    try:
        dense.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ValueError(f'the weights do not fit: {error}') from error
    copy_weights(backbone, dense, swapped_names(backbone, dense))
    for network in (dense, backbone):
        network.eval()  # MMDetection's returns None
    return dense, backbone
