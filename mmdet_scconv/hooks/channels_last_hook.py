"""Runs backbone and neck in the channels_last memory format."""
from mmdet.registry import HOOKS
from mmengine.hooks import Hook

from ..memory import is_on_cpu
from ..memory_format import use_channels_last
from .model_parts import parts_with_backbone

DEVICES = ('all', 'cpu', 'none')


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Stores the weights of backbone and neck as channels_last.

    Their convolutions then work in that layout, which is faster on CPUs and,
    by PyTorch's documentation, in mixed precision on GPUs; results are the
    same except for rounding. The heads get contiguous maps. A model with
    operators of mmcv in backbone or neck is left as it is, with a line in the
    log.

    Args:
        devices (str): Where: 'all', 'cpu' or 'none'. Defaults to 'all';
            SCConvRuntimeHook adds this hook with 'cpu'.

    Raises:
        ValueError: For other devices.
    """

    def __init__(self, devices: str = 'all') -> None:
        if devices not in DEVICES:
            raise ValueError(f'devices={devices!r} is not valid: one of '
                             f'{DEVICES}')
        self.devices = devices

    def before_run(self, runner) -> None:
        for model in parts_with_backbone(runner):
            wanted = self.devices == 'all' or (
                self.devices == 'cpu' and is_on_cpu(model))
            if wanted and not use_channels_last(model):
                runner.logger.info(
                    'ChannelsLastHook: backbone or neck of '
                    f'{type(model).__name__} take no channels_last maps')
