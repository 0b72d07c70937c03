"""Handwritten digits as a classification data set, one folder a class.

The digits that the detection data set is made of, in the same split: see
:mod:`mmdet_scconv.datasets.digits`.

    ROOT/{train,val}/{zero,one,...,nine}/0000.png
"""
import os

import cv2
import numpy as np

from ..atomic import new_folder
from ..datasets.digits import CLASSES, split_samples
from ..layers.common import check, is_int


def make_digit_folders(root: str, size: int = 64,
                       seed: int = 0) -> dict[str, int]:
    """Write scikit-learn's digits, white on black, to ``root``.

    Args:
        root (str): A folder that does not exist yet.
        size (int): Side of an image in pixels, at least 8. Defaults to 64.
        seed (int): Of the split, at least 0. Defaults to 0.

    Returns:
        dict: Number of images in 'train' and 'val'.

    Raises:
        ValueError: For an argument out of its range.
        FileExistsError: If ``root`` exists.
    """
    for name, value, minimum in (('size', size, 8), ('seed', seed, 0)):
        check(is_int(value, minimum), name, value, f'an int >= {minimum}')
    counts = {}
    with new_folder(root) as folder:
        for split, (glyphs, labels) in split_samples(seed).items():
            for name in CLASSES:
                os.makedirs(os.path.join(folder, split, name))
            for i, (glyph, label) in enumerate(zip(glyphs, labels)):
                image = cv2.resize(
                    glyph, (size, size), interpolation=cv2.INTER_CUBIC)
                cv2.imwrite(
                    os.path.join(folder, split, CLASSES[label],
                                 f'{i:04d}.png'),
                    np.clip(255 * image, 0, 255).astype(np.uint8))
            counts[split] = len(labels)
    return counts
