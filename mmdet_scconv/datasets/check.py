"""Looks at every image and box of a data set before a training does."""
import os
import os.path as osp
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from PIL import Image
from rich.progress import track

from .checked import flaw_of_box

EXIF_ORIENTATION = 0x0112


def parts_of(dataset) -> Iterator:
    """The data sets inside RepeatDataset, ConcatDataset and the like."""
    inner = getattr(dataset, 'datasets', None) or [
        getattr(dataset, 'dataset', None)
    ]
    if inner == [None]:
        yield dataset
        return
    for part in inner:
        yield from parts_of(part)


def flaw_of_image(path: str, width: int, height: int) -> str | None:
    """What is wrong with an image file, None if nothing.

    Args:
        path (str): The file.
        width (int): As annotated, in pixels.
        height (int): Likewise.
    """
    if not osp.isfile(path):
        return 'is missing'
    if not osp.getsize(path):
        return 'is empty'
    try:
        with Image.open(path) as image:
            stored = image.size
            turned = image.getexif().get(EXIF_ORIENTATION, 1) >= 5
            deep = image.mode.startswith('I')
            image.load()  # a cut one opens, and OpenCV fills the rest
    except Exception as error:  # a damaged image can raise anything
        return f'cannot be read: {error}'
    if cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) is None:
        return 'cannot be read by OpenCV'
    shown = stored[::-1] if turned else stored
    if shown != (width, height):
        if turned and stored == (width, height):
            return (f'is annotated as {width} x {height}, and {shown[0]} x '
                    f'{shown[1]} when its EXIF orientation is applied, as it '
                    "is. Set color_type='color_ignore_orientation' for "
                    'LoadImageFromFile, or rewrite it upright')
        return (f'has {shown[0]} x {shown[1]} pixels, and is annotated as '
                f'{width} x {height}')
    if deep:
        return 'has 16 bits a channel, of which the upper 8 are used'
    return None


def find_flaws(dataset) -> Iterator[tuple[str, str]]:
    """File and flaw of all that is not right in a data set.

    Args:
        dataset: Of MMDetection, built; annotations that it could not be
            built with are its own errors.
    """
    for part in parts_of(dataset):
        infos = [part.get_data_info(i) for i in range(len(part))]
        if hasattr(part, 'flaws'):
            yield from part.flaws
        else:
            for info in infos:
                for instance in info['instances']:
                    flaw = flaw_of_box(instance['bbox'], info['width'],
                                       info['height'])
                    if flaw:
                        yield info['img_path'], flaw
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            flaws = pool.map(
                lambda info: flaw_of_image(info['img_path'], info['width'],
                                           info['height']), infos)
            for info, flaw in track(
                    zip(infos, flaws), 'images', total=len(infos)):
                if flaw:
                    yield info['img_path'], flaw
