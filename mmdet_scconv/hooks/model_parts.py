"""Finds the detectors inside a runner's model."""
from mmengine.runner import Runner
from torch import nn

from ..pretrained.whole import inner_model


def detector(runner: Runner) -> nn.Module:
    """The runner's model without wrappers for processes or TTA."""
    return inner_model(runner.model)


def parts_with_backbone(runner: Runner) -> list[nn.Module]:
    """The runner's model, or the detectors inside it (of a tracker, a
    semi-supervised detector): what has a ``backbone``."""
    model = detector(runner)
    return [part for part in (model, *model.children())
            if hasattr(part, 'backbone')]
