"""The common part of networks whose blocks start with a norm."""
from collections.abc import Mapping

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn


class PreActivationNetwork(BaseModule):
    """A stem, stages, and a norm and a ReLU after the last stage.

    Subclasses call :meth:`set_parts` in their ``__init__``.

    Args:
        init_cfg (dict): See ``mmengine.model.BaseModule``. Defaults to
            Kaiming's initialisation.

    Shape: (N, 3, H, W) -> a tuple of one map.
    """

    def __init__(self, init_cfg: dict | list | None = None) -> None:
        super().__init__(init_cfg or [
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm'])
        ])

    def set_parts(self, stem: nn.Module, stages: Mapping[str, nn.Module],
                  norm_cfg: dict, width: int) -> None:
        """
        Args:
            stem (nn.Module): Takes the image.
            stages (Mapping): The stages by name, in their order.
            norm_cfg (dict): Of the last norm.
            width (int): Channels of the last stage.
        """
        self.stem = stem
        self.stages = tuple(stages)
        for name, stage in stages.items():
            self.add_module(name, stage)
        self.norm = build_norm_layer(norm_cfg, width)[1]
        self.relu = nn.ReLU()
        self.feat_dim = width  # of the output, for a classifier

    def forward(self, x: Tensor) -> tuple[Tensor]:
        x = self.stem(x)
        for name in self.stages:
            x = getattr(self, name)(x)
        return (self.relu(self.norm(x)), )
