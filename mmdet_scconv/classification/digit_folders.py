"""Handwritten digits as a classification data set, one folder a class.

The digits that the detection data set is made of, in the same split: see
:mod:`mmdet_scconv.datasets.digits`.

    ROOT/{train,val}/{zero,one,...,nine}/0000.png
"""
import os
import shutil

import cv2
import numpy as np

from ..datasets.digits import CLASSES, split_samples


def make_digit_folders(root: str, size: int = 64,
                       seed: int = 0) -> dict[str, int]:
    """Write scikit-learn's digits, white on black, to ``root``.

    They are made beside ``root`` and moved there when complete: a folder of
    that name is always a whole data set.

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
        if value < minimum:
            raise ValueError(
                f'{name}={value} is not valid: an int >= {minimum}')
    root = os.path.abspath(root)
    if os.path.exists(root):
        raise FileExistsError(f'root={root!r} exists: delete it, or name '
                              'another folder')
    unfinished = f'{root}.unfinished'
    shutil.rmtree(unfinished, ignore_errors=True)
    counts = {}
    for split, (glyphs, labels) in split_samples(seed).items():
        for name in CLASSES:
            os.makedirs(os.path.join(unfinished, split, name))
        for i, (glyph, label) in enumerate(zip(glyphs, labels)):
            image = cv2.resize(
                glyph, (size, size), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(
                os.path.join(unfinished, split, CLASSES[label],
                             f'{i:04d}.png'),
                np.clip(255 * image, 0, 255).astype(np.uint8))
        counts[split] = len(labels)
    os.rename(unfinished, root)
    return counts
