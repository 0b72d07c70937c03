"""Checks pretrained weights before a training."""
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import BaseModule
from mmengine.runner import BaseLoop

from ..backbones import SwappedModule
from ..pretrained import prepare_pretrained


@HOOKS.register_module()
class CheckPretrainedHook(Hook):
    """Checks the pretrained checkpoints of a model's stock modules before a
    training: that they can be had, are complete, and hold data alone.

    A :class:`SwappedModule` checks its own.
    """

    def before_run(self, runner) -> None:
        """
        Raises:
            FileNotFoundError: Says which file to put where.
            CheckpointError: If a file is damaged or could run code.
        """
        # only a training loads initial weights: its loop is built by now
        if not isinstance(runner._train_loop, BaseLoop):
            return
        for module in runner.model.modules():
            if (isinstance(module, BaseModule)
                    and not isinstance(module, SwappedModule)):
                prepare_pretrained(module, local=True)
