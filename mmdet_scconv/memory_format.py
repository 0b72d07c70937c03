"""The channels_last memory format for a detector's backbone and neck."""
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only


def use_channels_last(model: nn.Module) -> bool:
    """Let a detector's backbone and neck work in channels_last.

    Their outputs are made contiguous for the heads: mmcv's RoIAlign reads
    channels_last inputs as if they were contiguous, and gives wrong results
    (seen with onedl-mmcv 2.3.6 on the CPU).

    Returns:
        bool: False, and nothing is changed, where there is no backbone, or a
        backbone or a neck has operators of mmcv, such as deformable
        convolutions, which take no channels_last inputs, or weights that are
        not of images.
    """
    parts = [part for part in (getattr(model, name, None)
                               for name in ('backbone', 'neck'))
             if part is not None]
    if not parts or not all(map(takes_channels_last, parts)):
        return False
    for part in parts:
        part.to(memory_format=torch.channels_last)
    if to_contiguous not in parts[-1]._forward_hooks.values():
        parts[-1].register_forward_hook(to_contiguous)
    return True


def takes_channels_last(part: nn.Module) -> bool:
    """Whether all operators of a backbone or a neck do."""
    return not (
        any(type(m).__module__.startswith('mmcv.ops') for m in part.modules())
        or any(p.dim() > 4 for p in part.parameters()))


def to_contiguous(module: nn.Module, inputs, outputs):
    """A forward hook: the same, but contiguous."""
    return tree_map_only(Tensor, Tensor.contiguous, outputs)
