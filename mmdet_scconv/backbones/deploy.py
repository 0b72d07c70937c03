"""Folds norms into convolutions, for inference."""
from collections import Counter
from collections.abc import Iterator

from mmcv.cnn import ConvModule
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import fuse_conv_bn_eval

from ..layers import SCConv
from ..layers.common import is_hooked
from ..layers.fused import uses_running_statistics
from .select_convs import DENSE_TYPES


def deployable_parts(model: nn.Module) -> dict[str, nn.Module]:
    """The parts of a model, itself included, that have ``switch_to_deploy``,
    by name: backbones, necks and heads. Of nested ones the outer one."""
    found = {}
    for name, part in model.named_modules():
        inside = any(name.startswith(f'{outer}.') or not outer
                     for outer in found)
        if hasattr(part, 'switch_to_deploy') and not inside:
            found[name] = part
    return found


def deploy_parts(detector: nn.Module) -> None:
    """Call ``switch_to_deploy`` of all parts of a detector that have it.

    Raises:
        ValueError: If none has it.
    """
    parts = deployable_parts(detector)
    if not parts:
        backbone = type(getattr(detector, 'backbone', detector)).__name__
        raise ValueError(
            f'{backbone} has no switch_to_deploy(), nor has another part of '
            f'{type(detector).__name__}: only those of mmdet_scconv have one; '
            "for an ordinary backbone use dict(type='Swapped', module=dict("
            f"type='{backbone}', ...), select=dict(include=()))")
    for part in parts.values():
        part.switch_to_deploy()


# Their outputs are linear in their weights; those of ConvAWS and others, which
# standardise their weights, are not.
FOLDABLE = (*DENSE_TYPES, Conv2dAdaptivePadding)


def pairs(module: nn.Module, *conv_types: type
          ) -> Iterator[tuple[nn.Module, str, str]]:
    """Find each convolution, of exactly these types, that a BatchNorm follows
    in the same module. Yields that module, and the names of both.

    A convolution that several modules share is left out, because its norms
    differ.
    """
    places = Counter(id(child) for parent in module.modules()
                     for child in parent._modules.values())
    for parent in list(module.modules()):
        if isinstance(parent, ConvModule) and parent.order.index(
                'norm') != parent.order.index('conv') + 1:
            continue
        conv_name = None
        for name, child in list(parent._modules.items()):
            if (conv_name is not None and isinstance(child, _BatchNorm)
                    and uses_running_statistics(child)):
                yield parent, conv_name, name
            conv_name = name if (type(child) in conv_types
                                 and not is_hooked(child)
                                 and places[id(child)] == 1) else None


def deploy_alone(module: nn.Module) -> None:
    """Replace each remaining SCConv, in place; shared ones stay shared."""
    deployed = {}
    for parent in list(module.modules()):
        for name, conv in list(parent._modules.items()):
            if isinstance(conv, SCConv):
                if conv not in deployed:
                    deployed[conv] = conv.deploy(nn.Identity())
                if deployed[conv] is not None:
                    setattr(parent, name, deployed[conv])


def fold_batch_norms(module: nn.Module) -> None:
    """Fold BatchNorms into the convolutions before them, in place, and replace
    each SCConv by its form for inference.

    Args:
        module (nn.Module): In eval mode.
    """
    for parent, conv, norm in pairs(module, SCConv):
        deployed = parent._modules[conv].deploy(parent._modules[norm])
        if deployed is not None:
            setattr(parent, conv, deployed)
            setattr(parent, norm, nn.Identity())
    deploy_alone(module)
    # also those inside convolutions other than SCConv
    for parent, conv, norm in pairs(module, *FOLDABLE):
        setattr(parent, conv, fuse_conv_bn_eval(parent._modules[conv],
                                                parent._modules[norm]))
        setattr(parent, norm, nn.Identity())
