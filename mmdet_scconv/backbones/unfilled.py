"""What a training would freeze although no checkpoint has filled it.

A backbone with swapped convolutions is filled in part by the checkpoint of a
dense one. Frozen stages, and BatchNorms kept at their statistics, then stay
as initialised.
"""
from collections.abc import Mapping
from itertools import chain

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def filled_names(module: nn.Module, state_dict: Mapping,
                 prefix: str) -> set[str]:
    """Parameters and buffers of a module that a state dict has in their
    shape; ``prefix`` is the module's in the state dict."""
    return {
        name
        for name, value in chain(module.named_parameters(),
                                 module.named_buffers())
        if getattr(state_dict.get(prefix + name), 'shape', None) == value.shape
    }


def frozen_without_weights(backbone: nn.Module, filled: set[str]) -> str:
    """What is frozen and was filled by no checkpoint; '' if nothing.

    Args:
        backbone (nn.Module): A ResNet of MMDetection.
        filled (set): Names of its parameters and buffers that were filled.
    """
    return '. '.join(
        filter(None, (unfilled_stages(backbone, filled),
                      norms_without_statistics(backbone, filled))))


def unfilled_stages(backbone: nn.Module, filled: set[str]) -> str | None:
    """The part of :func:`frozen_without_weights` on ``frozen_stages``."""
    if backbone.frozen_stages < 0:
        return None
    stem = ('stem', ) if backbone.deep_stem else ('conv1',
                                                  backbone.norm1_name)
    frozen = {'stem': stem}
    frozen.update((name, (name, ))
                  for name in backbone.res_layers[:backbone.frozen_stages])
    stages = []
    for stage, children in frozen.items():
        names = {
            f'{child}.{name}'
            for child in children
            for name, _ in getattr(backbone, child).named_parameters()
        }
        if names - filled:
            stages.append(f'{stage} ({len(names - filled)} of {len(names)} '
                          'parameters)')
    if not stages:
        return None
    return (f'FROZEN WITHOUT WEIGHTS: frozen_stages={backbone.frozen_stages} '
            f'of {type(backbone).__name__} freezes {", ".join(stages)} that '
            'no checkpoint has filled: they stay as initialised')


def norms_without_statistics(backbone: nn.Module,
                             filled: set[str]) -> str | None:
    """The part of :func:`frozen_without_weights` on ``norm_eval``."""
    if not backbone.norm_eval:
        return None
    count = sum(
        isinstance(module, _BatchNorm)
        and f'{name}.running_mean' not in filled
        for name, module in backbone.named_modules())
    if not count:
        return None
    return (f'NORM_EVAL WITHOUT STATISTICS: norm_eval=True of '
            f'{type(backbone).__name__} keeps {count} BatchNorms at mean 0 '
            'and variance 1, as no checkpoint has filled them')
