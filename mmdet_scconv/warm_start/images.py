"""Unlabelled images as a detector's backbone would get them."""
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.registry import DATASETS, MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DefaultScope
from torch import Tensor

from ..datasets.checked import with_checked_types
from ..datasets.image_files import SUFFIXES

BATCH_SIZE = 8
# of MMDetection's models, for weights from ImageNet
PREPROCESSOR = dict(
    type='mmdet.DetDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True)


def crop(image: np.ndarray, size: int,
         rng: np.random.Generator) -> np.ndarray:
    """A square of ``size`` pixels at a random place, (size, size, 3); the
    image is enlarged where it is smaller."""
    height, width = image.shape[:2]
    factor = size / min(height, width)
    if factor > 1:
        shape = (max(size, round(width * factor)),
                 max(size, round(height * factor)))
        image = cv2.resize(image, shape, interpolation=cv2.INTER_LINEAR)
        height, width = image.shape[:2]
    y = rng.integers(height - size + 1)
    x = rng.integers(width - size + 1)
    return image[y:y + size, x:x + size]


def from_folder(folder: str, count: int, size: int,
                rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Images of a folder and its subfolders, in random order, their shorter
    side scaled to ``size``. Hidden files are left out: ``._x.jpg``, which
    macOS writes beside x.jpg, is no image.

    Raises:
        FileNotFoundError: If the folder holds no images.
        ValueError: If an image cannot be read.
    """
    paths = sorted(
        path for path in Path(folder).rglob('*')
        if path.suffix.lower() in SUFFIXES and not any(
            part.startswith('.') for part in path.relative_to(folder).parts))
    if not paths:
        raise FileNotFoundError(f'no images in the folder {folder!r}')
    for i in rng.permutation(len(paths))[:count]:
        image = cv2.imread(str(paths[i]))
        if image is None:
            raise ValueError(f'not an image that can be read: {paths[i]}')
        factor = size / min(image.shape[:2])
        yield cv2.resize(image, None, fx=factor, fy=factor,
                         interpolation=cv2.INTER_AREA)


def training_set(cfg: Config) -> BaseDataset:
    """The training set of a detection config, without its pipeline.

    Raises:
        ValueError: If the config has none.
    """
    dataset = cfg.get('train_dataloader', {}).get('dataset')
    if dataset is None:
        raise ValueError('the config has no train_dataloader.dataset')
    return DATASETS.build(with_checked_types(dataset))


def from_config(cfg: Config, count: int,
                rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Images of the training set of a detection config, in random order, at
    the scale of its test pipeline.

    Raises:
        ValueError: If the config has no training set.
    """
    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = training_set(cfg)
        pipeline = Compose([
            transform for transform in cfg.test_pipeline
            if transform['type'] not in ('LoadAnnotations', 'PackDetInputs')
        ])
    for i in rng.permutation(len(dataset))[:count]:
        yield pipeline(dict(dataset.get_data_info(int(i))))['img']


def generated(count: int, size: int,
              rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Random coloured images whose amplitude falls with 1/f, as that of
    photographs does; for use where there are no others."""
    rows = np.fft.fftfreq(size)[:, None]
    columns = np.fft.fftfreq(size)[None]
    fall = 1 / np.maximum(np.hypot(rows, columns), 1 / size)
    for _ in range(count):
        random = rng.normal(size=(3, size, size))
        # the colour channels of photographs are strongly correlated
        random += 2 * random.mean(0)
        image = np.fft.ifft2(np.fft.fft2(random) * fall).real
        image = image / image.std() * 55 + rng.uniform(90, 150)
        yield np.clip(image, 0, 255).astype(np.uint8).transpose(1, 2, 0)


def batches(images: Iterator[np.ndarray], size: int,
            rng: np.random.Generator,
            preprocessor: dict | None = None) -> list[Tensor]:
    """Crops of images, normalised as a detector does.

    Args:
        images (Iterator): (H, W, 3), uint8, BGR.
        size (int): Side of the crops in pixels.
        rng (Generator): Places the crops.
        preprocessor (dict | None): ``data_preprocessor`` of a detector.
            Defaults to MMDetection's for ImageNet weights.

    Returns:
        list: Tensors (up to 8, 3, size, size), float32, on the CPU.
    """
    normalise = MODELS.build(preprocessor or PREPROCESSOR)
    crops = [
        torch.from_numpy(np.ascontiguousarray(
            crop(image, size, rng).transpose(2, 0, 1))) for image in images
    ]
    return [
        normalise(dict(inputs=crops[i:i + BATCH_SIZE],
                       data_samples=None))['inputs']
        for i in range(0, len(crops), BATCH_SIZE)
    ]
