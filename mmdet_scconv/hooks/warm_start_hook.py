"""Fits swapped convolutions with images of the training set."""
import math

import numpy as np
import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from torch import Tensor, nn

from ..backbones.swapped_module import SwappedModule
from ..warm_start.images import crop
from ..warm_start.start import NUM_IMAGES, SIZE, start_warm
from .model_parts import detector


@HOOKS.register_module()
class WarmStartHook(Hook):
    """Fits the backbone's swapped convolutions to the dense ones of its
    checkpoint, with images of the training set, before a training.

    Nothing is done if ``load_from`` or a resumed checkpoint has filled them,
    if ``swapped_init='random'``, or if no checkpoint was given. Without this
    hook, generated images are used.

    Args:
        num_images (int): Number of crops of ``size``; of larger images so many
            that the area is the same. Defaults to 64.
        size (int): Sides of the crops in pixels, or the smallest side of the
            images. Defaults to 224.
    """

    # before all other hooks that use the model before a training
    priority = 'VERY_HIGH'

    def __init__(self, num_images: int = NUM_IMAGES, size: int = SIZE) -> None:
        self.num_images = num_images
        self.size = size

    def before_train(self, runner) -> None:
        model = detector(runner)
        network = getattr(model, 'backbone', None)
        if isinstance(network, SwappedModule) and network.to_be_fitted():
            start_warm(network,
                       lambda: self.training_images(runner, model),
                       'images of the training set')

    def training_images(self, runner, model: nn.Module) -> Tensor:
        """Random crops of training images, as the backbone gets them."""
        dataset = runner.train_dataloader.dataset
        rng = np.random.default_rng(0)
        order = rng.permutation(len(dataset))
        # several crops of each image of a small data set
        first = self.crops(dataset, np.resize(order, self.num_images), rng)
        # all of one size, that of the smallest
        side = min(min(x.shape[-2:]) for x in first)
        count = math.ceil(self.num_images * (self.size / side)**2)
        more = self.crops(dataset, order[self.num_images:count], rng)
        batch = model.data_preprocessor(
            dict(inputs=[cropped(x, side, rng) for x in [*first, *more]],
                 data_samples=None), training=False)
        return batch['inputs']

    def crops(self, dataset, indices, rng) -> list[Tensor]:
        """A crop of each image, up to (3, size, size). They are cropped one
        by one, as complete images need several times the memory."""
        images = (dataset[int(i)]['inputs'] for i in indices)
        return [cropped(x, min(self.size, *x.shape[-2:]), rng)
                for x in images]


def cropped(image: Tensor, side: int, rng: np.random.Generator) -> Tensor:
    """A random square of an image (3, H, W), which is enlarged where it is
    smaller: (3, side, side)."""
    found = crop(image.permute(1, 2, 0).numpy(), side, rng)
    return torch.from_numpy(found).permute(2, 0, 1).contiguous()
