"""Tests the backbone with folded BatchNorms."""
import copy

from mmdet.registry import HOOKS
from mmengine.hooks import Hook

from ..backbones.deploy import deploy_backbone
from .model_parts import detector, parts_with_backbone


@HOOKS.register_module()
class DeployHook(Hook):
    """Calls the backbone's ``switch_to_deploy`` before a test.

    After the last image the original backbone is restored, for hooks that use
    its parameters afterwards (``EMAHook``). Does nothing in a training, as the
    weights are trained further after a validation. Put it into
    ``custom_hooks``, or call ``test.py --deploy``.

    Raises:
        ValueError: If the backbone has no such form.
    """

    priority = 'VERY_LOW'  # after the hooks that exchange weights

    def before_test_epoch(self, runner) -> None:
        models = parts_with_backbone(runner)
        # a tracker's ReID may have another backbone
        models = [model for model in models if hasattr(
            model.backbone, 'switch_to_deploy')] or [detector(runner)]
        self.before = [(model, copy.deepcopy(model.backbone))
                       for model in models]
        for model in models:
            deploy_backbone(model)

    def after_test_iter(self, runner, batch_idx: int, data_batch: dict = None,
                        outputs: list = None) -> None:
        if batch_idx + 1 == len(runner.test_dataloader):
            for model, backbone in self.before:
                model.backbone = backbone
