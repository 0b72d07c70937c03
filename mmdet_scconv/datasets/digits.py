"""A detection data set that needs no download: handwritten digits on textures.

The digits are scikit-learn's bundled ``load_digits`` (1797 real handwritten
digits of 8x8 pixels, from UCI's "Optical Recognition of Handwritten Digits"),
placed without overlap at random scale, colour and position. Training and
validation images are made from disjoint digit samples. The same seed gives
the same files.

One folder holds both formats::

    ROOT/JPEGImages/train_0000.jpg ...
    ROOT/annotations/instances_{train,val}.json         COCO format
    ROOT/Annotations/train_0000.xml ...                 VOC format
    ROOT/ImageSets/Main/{train,val}.txt
"""
import json
import os
import xml.etree.ElementTree as ET
from typing import NamedTuple

import cv2
import numpy as np
from rich.progress import track

from ..atomic import new_folder
from ..layers.common import check, is_int
from .coco_json import coco_content

CLASSES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven',
           'eight', 'nine')
# share of each class's digit samples that validation images are made from
VAL_SHARE = 0.25
MIN_DIGITS, MAX_DIGITS = 2, 5
# side of a digit, as a share of the image's side
MIN_SCALE, MAX_SCALE = 0.22, 0.45


class Box(NamedTuple):
    """A box in pixels, 0-based, ``x2`` and ``y2`` exclusive."""
    x1: int
    y1: int
    x2: int
    y2: int
    label: int


def split_samples(seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The digit samples of both splits, disjoint and stratified by class.

    Returns:
        dict: ``train`` and ``val``, each (glyphs, labels) with glyphs of
        shape (n, 8, 8) between 0 and 1.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'The digits data set is made from scikit-learn\'s handwritten '
            'digits: pip install scikit-learn') from error
    digits = load_digits()
    rng = np.random.default_rng(seed)
    chosen = {'train': [], 'val': []}
    for label in range(len(CLASSES)):
        indices = rng.permutation(np.flatnonzero(digits.target == label))
        num_val = int(len(indices) * VAL_SHARE)
        chosen['val'].append(indices[:num_val])
        chosen['train'].append(indices[num_val:])
    indices = {k: np.concatenate(v) for k, v in chosen.items()}
    return {
        k: (digits.images[v] / 16, digits.target[v])
        for k, v in indices.items()
    }


def texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """A background: smooth noise, stripes and grain, (size, size, 3) uint8."""
    cells = int(rng.integers(2, 9))
    image = rng.uniform(40, 215, 3) + cv2.resize(
        rng.uniform(-35, 35, (cells, cells, 3)), (size, size),
        interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:size, :size]
    angle = rng.uniform(0, np.pi)
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) *
                  rng.uniform(0.1, 0.9))
    image += wave[..., None] * rng.uniform(0, 20)
    image += rng.normal(0, rng.uniform(1, 8), image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def place_digit(rng: np.random.Generator, image: np.ndarray,
                glyph: np.ndarray, label: int, boxes: list[Box]) -> None:
    """Paint one digit into ``image`` and add its box, where room is left."""
    size = len(image)
    side = int(rng.uniform(MIN_SCALE, MAX_SCALE) * size)
    alpha = np.clip(
        cv2.resize(glyph, (side, side), interpolation=cv2.INTER_CUBIC), 0, 1)
    ys, xs = np.nonzero(alpha > 0.3)
    alpha = alpha[ys.min():ys.max() + 1, xs.min():xs.max() + 1]
    height, width = alpha.shape
    for _ in range(20):
        x1 = int(rng.integers(0, size - width + 1))
        y1 = int(rng.integers(0, size - height + 1))
        box = Box(x1, y1, x1 + width, y1 + height, label)
        if all(box.x2 <= b.x1 or b.x2 <= box.x1 or box.y2 <= b.y1
               or b.y2 <= box.y1 for b in boxes):
            break
    else:
        return
    patch = image[y1:box.y2, x1:box.x2]
    # a colour that stands out: far from the mean of what it covers
    around = patch.reshape(-1, 3).mean(0)
    colours = rng.uniform(0, 255, (8, 3))
    colour = colours[np.abs(colours - around).sum(1).argmax()]
    alpha = alpha[..., None]
    patch[:] = (alpha * colour + (1 - alpha) * patch).astype(np.uint8)
    boxes.append(box)


def make_image(rng: np.random.Generator, size: int, glyphs: np.ndarray,
               labels: np.ndarray) -> tuple[np.ndarray, list[Box]]:
    """One image with digits where they find room, and their boxes."""
    image = texture(rng, size)
    boxes: list[Box] = []
    count = rng.integers(MIN_DIGITS, MAX_DIGITS + 1)
    for i in rng.integers(len(glyphs), size=count):
        place_digit(rng, image, glyphs[i], int(labels[i]), boxes)
    return image, boxes


def write_voc(path: str, file_name: str, size: int, boxes: list[Box]) -> None:
    """Write the VOC annotation of one image (1-based, inclusive boxes)."""
    root = ET.Element('annotation')
    ET.SubElement(root, 'filename').text = file_name
    size_node = ET.SubElement(root, 'size')
    for key, value in zip(('width', 'height', 'depth'), (size, size, 3)):
        ET.SubElement(size_node, key).text = str(value)
    for box in boxes:
        node = ET.SubElement(root, 'object')
        ET.SubElement(node, 'name').text = CLASSES[box.label]
        ET.SubElement(node, 'difficult').text = '0'
        bndbox = ET.SubElement(node, 'bndbox')
        for key, value in (('xmin', box.x1 + 1), ('ymin', box.y1 + 1),
                           ('xmax', box.x2), ('ymax', box.y2)):
            ET.SubElement(bndbox, key).text = str(value)
    ET.ElementTree(root).write(path)


def coco_annotations(images: list[dict], boxes: list[list[Box]]) -> dict:
    """The COCO annotation file of one split."""
    annotations = []
    for image, image_boxes in zip(images, boxes):
        for box in image_boxes:
            width, height = box.x2 - box.x1, box.y2 - box.y1
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image['id'],
                    category_id=box.label + 1,
                    bbox=[box.x1, box.y1, width, height],
                    area=width * height,
                    iscrowd=0))
    return dict(
        info=dict(description='handwritten digits on textures'),
        **coco_content(images, annotations, CLASSES))


def make_digits(root: str,
                num_train: int = 500,
                num_val: int = 100,
                size: int = 128,
                seed: int = 0) -> None:
    """Write the data set to ``root``, in COCO and in VOC format.

    Args:
        root (str): A folder that does not exist yet.
        num_train (int): Training images. Defaults to 500.
        num_val (int): Validation images. Defaults to 100.
        size (int): Side of an image in pixels, at least 64. Defaults to 128.
        seed (int): Defaults to 0.

    Raises:
        ValueError: For an argument out of its range.
        FileExistsError: If ``root`` exists.
    """
    for name, value, minimum in (('num_train', num_train, 1),
                                 ('num_val', num_val, 1), ('size', size, 64),
                                 ('seed', seed, 0)):
        check(is_int(value, minimum), name, value, f'an int >= {minimum}')
    samples = split_samples(seed)
    with new_folder(root) as folder:
        for index, (split, count) in enumerate((('train', num_train),
                                                ('val', num_val))):
            write_split(folder, split, count, size,
                        np.random.default_rng([seed, index]), *samples[split])


def write_split(folder: str, split: str, count: int, size: int,
                rng: np.random.Generator, glyphs: np.ndarray,
                labels: np.ndarray) -> None:
    """Write one split's images, and its annotations in both formats."""
    for name in ('JPEGImages', 'annotations', 'Annotations',
                 'ImageSets/Main'):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    images, boxes = [], []
    for i in track(range(count), description=f'{split} images'):
        image, image_boxes = make_image(rng, size, glyphs, labels)
        name = f'{split}_{i:04d}'
        cv2.imwrite(
            os.path.join(folder, 'JPEGImages', f'{name}.jpg'), image,
            [cv2.IMWRITE_JPEG_QUALITY, 95])
        write_voc(
            os.path.join(folder, 'Annotations', f'{name}.xml'), f'{name}.jpg',
            size, image_boxes)
        images.append(
            dict(id=i, file_name=f'{name}.jpg', width=size, height=size))
        boxes.append(image_boxes)
    with open(
            os.path.join(folder, 'annotations', f'instances_{split}.json'),
            'w') as f:
        json.dump(coco_annotations(images, boxes), f)
    with open(
            os.path.join(folder, 'ImageSets', 'Main', f'{split}.txt'),
            'w') as f:
        f.writelines(f'{split}_{i:04d}\n' for i in range(count))
