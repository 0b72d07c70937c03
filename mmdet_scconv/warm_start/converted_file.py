"""The file of a converted checkpoint: what is kept beside the backbone, and
how it is written."""
import json
import os
import os.path as osp
import re
from collections.abc import Mapping

from torch import Tensor

from ..atomic import write_atomically
from ..pretrained.key_names import find_prefix
from .cache import store_fitted


def check_whole(state_dict: Mapping[str, Tensor], out: str,
                classifier: bool) -> None:
    """Check that a converted file can be loaded as a whole detector.

    Raises:
        ValueError: If the source is no detector of MMDetection's names, or
            ``out`` is a format that ``load_from`` does not read.
    """
    if out.endswith('.safetensors'):
        raise ValueError(f'out={out!r} is not valid with whole=True: '
                         'load_from does not read .safetensors, name a .pth')
    if classifier:
        return
    prefix = find_prefix(state_dict)
    instead = ('without whole (--whole-detector) its ResNet is converted, for '
               "init_cfg=dict(type='Pretrained') of a backbone")
    if prefix.split('.')[-2:] != ['backbone', '']:
        raise ValueError(
            'whole=True keeps the neck and heads of a detector of '
            "MMDetection, whose ResNet lies under 'backbone.'; this file has "
            f'one under {prefix!r}, and nothing beside it would fit' +
            (" (torchvision's detectors have other heads)"
             if prefix.endswith('backbone.body.') else '') + f': {instead}')
    if all(name.startswith(prefix) for name in state_dict):
        raise ValueError('whole=True: there is nothing beside the backbone '
                         f'in the file: {instead}')


def save(path: str, state_dict: Mapping[str, Tensor], meta: dict) -> None:
    """Write a checkpoint, as safetensors where the name ends so; the file is
    whole or not there.

    Raises:
        ImportError: If safetensors is needed and missing.
        OSError: If it cannot be written.
    """
    os.makedirs(osp.dirname(osp.abspath(path)), exist_ok=True)
    if path.endswith('.safetensors'):
        from safetensors.torch import save as to_bytes
        write_atomically(path, to_bytes(
            {k: v.contiguous() for k, v in state_dict.items()},
            metadata=dict(meta=json.dumps(meta))))
    else:
        store_fitted(path, dict(meta=meta, state_dict=dict(state_dict)))


def merge(given: Mapping[str, Tensor], weights: Mapping[str, Tensor],
          backbone: Mapping[str, Tensor],
          classifier: bool) -> dict[str, Tensor]:
    """The converted backbone, and what else the source holds.

    Args:
        given (Mapping): The source.
        weights (Mapping): Its ResNet, names without prefix.
        backbone (Mapping): The converted backbone.
        classifier (bool): Whether names are to be those of
            :class:`ImageClassifier`.
    """
    prefix = find_prefix(given)
    others = {k: v for k, v in given.items()
              if k.removeprefix(prefix) not in weights}
    if classifier:
        others = {f'fc.{k}': v for k, v in last_layer(others).items()}
        prefix = 'backbone.'
    return others | {prefix + k: v for k, v in backbone.items()}


def last_layer(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weight and bias of a classifier's last layer, ``fc`` or ``linear``."""
    return {key.rsplit('.', 1)[-1]: value for key, value in given.items()
            if re.search(r'(^|\.)(fc|linear)\.(weight|bias)$', key)}
