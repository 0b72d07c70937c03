"""Says before a training what pretrained weights are missing."""
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import BaseModule
from mmengine.runner import BaseLoop

from ..backbones import SwappedModule
from ..pretrained import prepare_pretrained


@HOOKS.register_module()
class CheckPretrainedHook(Hook):
    """Checks all pretrained checkpoints of the model before a training.

    For stock modules; a :class:`SwappedModule` checks its own.
    """

    def before_run(self, runner) -> None:
        # only a training loads initial weights: its loop is built by now
        if not isinstance(runner._train_loop, BaseLoop):
            return
        for module in runner.model.modules():
            if (isinstance(module, BaseModule)
                    and not isinstance(module, SwappedModule)):
                prepare_pretrained(module, local=True)
