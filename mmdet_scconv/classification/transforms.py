"""Transforms of classification that MMCV does not have."""
import math

import mmcv
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmengine.structures import BaseDataElement

from ..layers.common import IntOrPair, check, is_int, to_pair


@TRANSFORMS.register_module()
class RandomResizedCrop(BaseTransform):
    """Cut out a random part of the image and resize it to one size.

    Source: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015; the
    sampling is torchvision's: 10 attempts, then the centre.

    Args:
        size (int | tuple): Height and width of the result in pixels.
        area (tuple): Smallest and largest part of the image's area, above 0
            and up to 1. Defaults to (0.08, 1).
        aspect_ratio (tuple): Smallest and largest width over height of the
            part. Defaults to (3 / 4, 4 / 3).
        interpolation (str): As MMCV names it. Defaults to 'bilinear'.
        backend (str): 'cv2', or 'pillow', which smooths before it shrinks.
            Defaults to 'cv2'.

    Sets ``img`` and ``img_shape``.

    Raises:
        ValueError: For an option out of its range.
    """

    attempts = 10

    def __init__(self,
                 size: IntOrPair,
                 area: tuple[float, float] = (0.08, 1.),
                 aspect_ratio: tuple[float, float] = (3 / 4, 4 / 3),
                 interpolation: str = 'bilinear',
                 backend: str = 'cv2') -> None:
        self.size = to_pair(size, 'size')
        check(0 < area[0] <= area[1] <= 1, 'area', area,
              'two numbers above 0 and up to 1, the smaller one first')
        check(0 < aspect_ratio[0] <= aspect_ratio[1], 'aspect_ratio',
              aspect_ratio, 'two numbers above 0, the smaller one first')
        self.area = area
        self.aspect_ratio = aspect_ratio
        self.interpolation = interpolation
        self.backend = backend

    def part(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Top, left, height and width of a random part."""
        for _ in range(self.attempts):
            area = height * width * np.random.uniform(*self.area)
            ratio = math.exp(np.random.uniform(*np.log(self.aspect_ratio)))
            w = round(math.sqrt(area * ratio))
            h = round(math.sqrt(area / ratio))
            if 0 < h <= height and 0 < w <= width:
                return (np.random.randint(height - h + 1),
                        np.random.randint(width - w + 1), h, w)
        # a very wide or very high image: the largest part with a valid ratio
        ratio = np.clip(width / height, *self.aspect_ratio)
        w = max(1, min(width, round(height * ratio)))
        h = max(1, min(height, round(width / ratio)))
        return (height - h) // 2, (width - w) // 2, h, w

    def transform(self, results: dict) -> dict:
        top, left, h, w = self.part(*results['img'].shape[:2])
        results['img'] = mmcv.imresize(
            results['img'][top:top + h, left:left + w],
            self.size[::-1],
            interpolation=self.interpolation,
            backend=self.backend)
        results['img_shape'] = self.size
        return results


@TRANSFORMS.register_module()
class RandomPadCrop(BaseTransform):
    """Pad the image with zeros and cut out a random part: a random shift.

    Source: He et al., "Deep Residual Learning", CVPR 2016, for CIFAR.

    Args:
        size (int | tuple): Height and width of the result in pixels.
        padding (int): Pixels added on each side, at least 0.

    Sets ``img`` and ``img_shape``.

    Raises:
        ValueError: For an option out of its range, or an image that is too
            small.
    """

    def __init__(self, size: IntOrPair, padding: int) -> None:
        self.size = to_pair(size, 'size')
        check(is_int(padding, 0), 'padding', padding, 'an int >= 0')
        self.padding = padding

    def transform(self, results: dict) -> dict:
        image = mmcv.impad(results['img'], padding=self.padding)
        room = [s - size for s, size in zip(image.shape, self.size)]
        check(
            min(room) >= 0, 'size', self.size,
            f'the padded image has {image.shape[:2]} pixels')
        top, left = (np.random.randint(r + 1) for r in room)
        results['img'] = image[top:top + self.size[0],
                               left:left + self.size[1]]
        results['img_shape'] = self.size
        return results


@TRANSFORMS.register_module()
class PackClsInputs(BaseTransform):
    """Convert an image and its label to the inputs of
    :class:`ImageClassifier`.

    Args:
        meta_keys (Sequence[str]): Entries that are copied to the data sample,
            if they exist.

    Returns ``inputs``, a tensor (3, H, W) of the image's type, and
    ``data_samples`` with the label, where there is one, as ``gt_label``.
    """

    def __init__(self, meta_keys=('sample_idx', 'img_path', 'ori_shape',
                                  'img_shape')) -> None:
        self.meta_keys = meta_keys

    def transform(self, results: dict) -> dict:
        sample = BaseDataElement(
            metainfo={k: results[k] for k in self.meta_keys if k in results})
        if 'gt_label' in results:
            sample.gt_label = torch.tensor(results['gt_label'])
        image = np.ascontiguousarray(results['img'].transpose(2, 0, 1))
        return dict(inputs=torch.from_numpy(image), data_samples=sample)
