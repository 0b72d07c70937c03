"""Modules in their form for inference."""
from collections import Counter
from collections.abc import Iterator

from mmcv.cnn import ConvModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import fuse_conv_bn_eval

from ..layers import SCConv
from ..layers.fused import uses_running_statistics


def deploy_backbone(detector: nn.Module) -> None:
    """Call ``switch_to_deploy`` of a detector's backbone.

    Raises:
        ValueError: If the backbone has no such form.
    """
    backbone = detector.backbone
    if not hasattr(backbone, 'switch_to_deploy'):
        raise ValueError(
            f'backbone {type(backbone).__name__} has no switch_to_deploy(): '
            'only the backbones of mmdet_scconv have one; for an ordinary '
            "one there is dict(type='Swapped', module=dict(type="
            f"'{type(backbone).__name__}', ...), select=dict(include=()))")
    backbone.switch_to_deploy()


def pairs(module: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Each convolution with the BatchNorm that follows it among the parts of
    one module: that module, the names of both.

    A convolution that several parts share is none: its norms differ.
    """
    places = Counter(id(child) for parent in module.modules()
                     for child in parent._modules.values())
    for parent in list(module.modules()):
        if isinstance(parent, ConvModule) and parent.order.index(
                'norm') < parent.order.index('conv'):
            continue
        before = None
        for name, child in list(parent._modules.items()):
            if before is not None and isinstance(child, _BatchNorm):
                yield parent, before, name
            ready = isinstance(child, (nn.Conv2d, SCConv))
            before = name if ready and places[id(child)] == 1 else None


def fold_batch_norms(module: nn.Module) -> None:
    """Fold, in place, BatchNorms into the convolutions before them, and what
    SCConv computes before it sees an image.

    Args:
        module (nn.Module): In eval mode.
    """
    for parent, name, norm_name in pairs(module):
        conv, norm = parent._modules[name], parent._modules[norm_name]
        if not uses_running_statistics(norm):
            continue
        folded = (conv.deploy(norm) if isinstance(conv, SCConv) else
                  fuse_conv_bn_eval(conv, norm))
        if folded is not None:
            setattr(parent, name, folded)
            setattr(parent, norm_name, nn.Identity())
    # those without a BatchNorm of their own
    alone = {}
    for parent in list(module.modules()):
        for name, conv in list(parent._modules.items()):
            if isinstance(conv, SCConv):
                if conv not in alone:
                    alone[conv] = conv.deploy(nn.Identity())
                if alone[conv] is not None:
                    setattr(parent, name, alone[conv])

