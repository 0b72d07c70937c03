"""Runs backbone and neck in the channels_last memory format."""
import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook

from .model_parts import parts_with_backbone


def to_contiguous(module, inputs, outputs):
    return tuple(output.contiguous() for output in outputs)


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Stores the weights of backbone and neck as channels_last.

    Their convolutions then work in that layout, which is faster on CPUs and,
    in mixed precision, on GPUs; results are the same except for rounding.
    Their outputs are made contiguous for the heads: mmcv's RoIAlign reads
    channels_last inputs as if they were contiguous, and gives wrong results
    (seen with onedl-mmcv 2.3.6 on the CPU). Put it into ``custom_hooks``.
    """

    def before_run(self, runner) -> None:
        for model in parts_with_backbone(runner):
            last = None
            for part in (model.backbone, getattr(model, 'neck', None)):
                if part is not None:
                    part.to(memory_format=torch.channels_last)
                    last = part
            last.register_forward_hook(to_contiguous)
