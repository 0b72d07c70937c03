"""Tests the backbone in its form for inference."""
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..backbones.deploy import deploy_backbone
from .model_parts import detector


@HOOKS.register_module()
class DeployHook(Hook):
    """Calls the backbone's ``switch_to_deploy`` before a test.

    Does nothing in a training, whose validations need weights that go on
    learning. Put it into ``custom_hooks``, or call ``test.py --deploy``.

    Raises:
        ValueError: If the backbone has no such form.
    """

    priority = 'VERY_LOW'  # after the hooks that exchange weights

    def before_test_epoch(self, runner) -> None:
        deploy_backbone(detector(runner))
