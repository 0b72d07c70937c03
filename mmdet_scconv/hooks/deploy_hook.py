"""Tests a detector with folded BatchNorms."""
import copy

from mmdet.registry import HOOKS
from mmengine.hooks import Hook

from ..backbones.deploy import deploy_parts, deployable_parts
from .model_parts import detector


@HOOKS.register_module()
class DeployHook(Hook):
    """Calls ``switch_to_deploy`` of backbone, neck and heads, where they have
    it, before a test.

    After the last image the original ones are restored, for hooks that use
    their parameters afterwards (``EMAHook``). Does nothing in a training, as
    the weights are trained further after a validation. Put it into
    ``custom_hooks``, or call ``test.py --deploy``.

    Raises:
        ValueError: If no part has such a form.
    """

    priority = 'VERY_LOW'  # after the hooks that exchange weights

    def before_test_epoch(self, runner) -> None:
        model = detector(runner)
        self.before = copy.deepcopy(deployable_parts(model))
        deploy_parts(model)

    def after_test_iter(self, runner, batch_idx: int, data_batch: dict = None,
                        outputs: list = None) -> None:
        if batch_idx + 1 == len(runner.test_dataloader):
            for name, part in self.before.items():
                detector(runner).set_submodule(name, part)
