"""Finds the detector inside a runner's model."""
from mmengine.runner import Runner
from torch import nn

from ..pretrained.whole import inner_model


def detector(runner: Runner) -> nn.Module:
    """The runner's model without wrappers for processes or TTA."""
    return inner_model(runner.model)
