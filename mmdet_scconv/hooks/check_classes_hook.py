"""Checks before a training that data and detector have the same classes."""
from mmdet.engine.hooks import NumClassCheckHook
from mmdet.registry import HOOKS

from ..datasets.checked import differing_classes
from ..datasets.findings import DataError


@HOOKS.register_module()
class CheckClassesHook(NumClassCheckHook):
    """NumClassCheckHook that also compares the names of training and
    validation."""

    def before_train(self, runner) -> None:
        """
        Raises:
            DataError: If they differ; names both.
        """
        if runner.val_loop is None:
            return
        train, val = (
            tuple(loader.dataset.metainfo.get('classes') or ())
            for loader in (runner.train_dataloader, runner.val_dataloader))
        if train != val:
            raise DataError('the validation data '
                            f'{differing_classes(train, val)}')
