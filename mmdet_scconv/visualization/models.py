"""Builds models from configs, and reads images as a model gets them."""
import copy
import math
import os.path as osp
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from mmcv.transforms import Compose
from mmdet.registry import MODELS
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from torch import Tensor, nn

from ..paper.complexity import without_checkpoint
from ..pretrained import read_state_dict
from ..pretrained.whole import load_whole


def load_model(cfg: Config,
               checkpoint: str | None = None,
               device: str = 'cpu') -> nn.Module:
    """Build a config's model for inference.

    Args:
        cfg (Config): With a ``model``.
        checkpoint (str): File of its weights; None: random weights.
        device (str): Defaults to 'cpu'.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it cannot be read, or lacks parameters of the model.
    """
    model = revert_sync_batchnorm(MODELS.build(without_checkpoint(cfg.model)))
    if checkpoint is not None:
        loaded = load_whole(model, read_state_dict(checkpoint), checkpoint)
        if loaded.missing:
            raise ValueError(
                f'checkpoint={checkpoint!r} is of another model: {loaded}')
    model.to(device)
    model.eval()
    return model


def inference_copy(model: nn.Module) -> nn.Module:
    """A copy of a model in test mode, to be changed."""
    model = copy.deepcopy(model)
    model.eval()  # not chained: mmdet's ResNet returns None
    return model


@dataclass(frozen=True)
class Picture:
    """An image as a model gets it.

    ``pixels``: (H, W, 3), RGB, uint8, as resized by the test pipeline;
    ``inputs``: (1, 3, H', W'), normalised and padded at right and bottom.
    """

    path: str
    pixels: np.ndarray
    inputs: Tensor

    def crop(self, maps: Tensor) -> Tensor:
        """Feature maps (..., H, W) of ``inputs`` without the padding."""
        sizes = zip(maps.shape[-2:], self.pixels.shape, self.inputs.shape[2:])
        height, width = (math.ceil(cells * pixels / padded)
                         for cells, pixels, padded in sizes)
        return maps[..., :height, :width]


def read_picture(model: nn.Module, cfg: Config, path: str) -> Picture:
    """Read an image file by a config's test pipeline.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read as an image.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(f'no such image: {path}')
    try:
        data = Compose(get_test_pipeline_cfg(cfg))(
            dict(img_path=path, img_id=0))
    # MMDetection asserts that an image could be decoded
    except (AssertionError, OSError, ValueError) as error:
        raise ValueError(f'{path} cannot be read as an image') from error
    pixels = data['inputs'].permute(1, 2, 0).numpy()[..., ::-1]
    batch = model.data_preprocessor(
        dict(inputs=[data['inputs']], data_samples=[data['data_samples']]))
    return Picture(path, np.ascontiguousarray(pixels), batch['inputs'])


@contextmanager
def forward_hooks(modules: dict[str, nn.Module],
                  hook: Callable[[str, Tensor, Tensor], Tensor | None]
                  ) -> Iterator[None]:
    """Call ``hook(name, input, output)`` at each call of the modules; a
    returned value replaces the output."""
    handles = [
        module.register_forward_hook(
            lambda _, inputs, out, name=name: hook(name, inputs[0], out))
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
