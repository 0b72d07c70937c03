"""Finds the detector inside of what a runner calls its model."""
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn


def detector(runner: Runner) -> nn.Module:
    """The runner's model without wrappers for processes or TTA."""
    model = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model
