"""Boxes and image sizes of a COCO annotation file."""
import math
from itertools import chain

import numpy as np
from pycocotools import mask as mask_api

from .boxes import (
    BEYOND,
    NO_AREA,
    NORMALISED,
    OUTSIDE,
    ROTATED,
    SHARE_OF_CORNERS,
    box_problem,
    rotation_of,
)
from .image_files import other_names, size_problem

NUMBERS = {int, float}
MOST_PIXELS = 1 << 20  # OpenCV's limit for a side


def number(value: object) -> float | None:
    """A finite number, also if it is written as text; None for anything else.
    """
    try:
        if isinstance(value, str):
            value = float(value)
        if type(value) in NUMBERS and math.isfinite(value):
            return value
    except (OverflowError, ValueError):
        pass
    return None


def array_of(boxes: list) -> np.ndarray | None:
    """(n, 4), None if not all are lists of four finite numbers."""
    if not (set(map(type, boxes)) <= {list} and set(map(len, boxes)) <= {4}
            and set(map(type, chain.from_iterable(boxes))) <= NUMBERS):
        return None
    try:
        array = np.array(boxes, dtype=float).reshape(-1, 4)
    except OverflowError:
        return None
    return array if np.isfinite(array).all() else None


def repair_boxes(reader) -> np.ndarray:
    """Convert every ``bbox`` to four finite numbers.

    Args:
        reader (CocoReader): Its annotations are changed, those without a
            usable box refused.

    Returns:
        ndarray: (n, 4), the boxes of all annotations.
    """
    annotations = reader.lists['annotations']
    boxes = array_of([ann.get('bbox') for ann in annotations])
    if boxes is None:
        annotations = [ann for ann in annotations if repair_box(reader, ann)]
        reader.lists['annotations'] = annotations
        boxes = array_of([ann['bbox'] for ann in annotations])
    return boxes


def repair_areas(reader) -> None:
    """Convert every ``area`` to a number."""
    annotations = reader.lists['annotations']
    areas = [ann.get('area') for ann in annotations]
    if set(map(type, areas)) <= NUMBERS and \
            all(area > 0 and area < math.inf for area in areas):
        return
    for ann, area in zip(annotations, areas):
        value = number(area)
        width, height = ann['bbox'][2:]
        if value is None or value <= 0 and min(width, height) >= 1:
            ann['area'] = width * height
            reader.findings.repair(
                'area missing'
                if area is None else 'area that is not a number',
                f'{reader.name("annotations", ann)}, area={area!r} read as '
                f'width * height = {ann["area"]:g}')
        else:
            ann['area'] = value


def repair_box(reader, ann: dict) -> bool:
    """Whether there is a box; refuses the annotation if not."""
    box = ann.get('bbox')
    called = reader.name('annotations', ann)
    if isinstance(box, list) and len(box) == 4:
        values = [number(value) for value in box]
        if None not in values:
            if any(isinstance(value, str) for value in box):
                reader.findings.repair('bbox of text, read as numbers',
                                       f'{called}, bbox={box}')
            ann['bbox'] = values
            return True
    if box in (None, []):
        found = box_of_segmentation(ann)
        if found is not None and array_of([found]) is not None:
            ann['bbox'] = found
            reader.findings.repair('no bbox, that of the segmentation is used',
                                   f'{called}, {found}')
            return True
    if 'bbox' not in ann:
        text = 'has no bbox'
    elif isinstance(box, list) and len(box) == 5:
        text = (f'has bbox={box}, five numbers: rotated boxes cannot be '
                'trained on here; write x, y, width, height of an upright one')
    else:
        text = (f'has bbox={box}, which is not four numbers x, y, width, '
                'height: correct or remove it')
    reader.refuse('annotations', ann, text)
    return False


def box_of_segmentation(ann: dict) -> list | None:
    """x, y, width, height around polygons or a mask."""
    shape = ann.get('segmentation')
    try:
        if isinstance(shape, list):
            xs = [x for polygon in shape for x in polygon[::2]]
            ys = [y for polygon in shape for y in polygon[1::2]]
            x, y = min(xs), min(ys)
            return [x, y, max(xs) - x, max(ys) - y]
        if isinstance(shape['counts'], list):
            shape = mask_api.frPyObjects(shape, *shape['size'])
        return mask_api.toBbox(shape).tolist()
    except Exception:  # whatever is written there, it is not a shape
        return None


def image_sizes(reader) -> dict:
    """(width, height) by image id, as whole numbers: as in the file, else of
    the image itself, else infinite."""
    sizes = {}
    for image in reader.lists['images']:
        width, height = image.get('width'), image.get('height')
        if not (type(width) is type(height) is int and
                0 < width < MOST_PIXELS > height > 0):
            width, height = repair_size(reader, image)
        sizes[image['id']] = width, height
    return sizes


def repair_size(reader, image: dict) -> tuple[float, float]:
    written = image.get('width'), image.get('height')
    size = tuple(number(value) for value in written)
    called = reader.name('images', image)
    shown = f'{called}, width={written[0]!r}, height={written[1]!r}'
    if all(value and 0 < value < MOST_PIXELS and value == int(value)
           for value in size):
        image['width'], image['height'] = map(int, size)
        reader.findings.repair('image sizes not written as whole numbers',
                               shown)
        return image['width'], image['height']
    if reader.images is None:  # evaluation of boxes needs none
        return math.inf, math.inf
    own = own_size(reader, image)
    if own is None:
        reader.refuse(
            'images', image, f'has width={written[0]!r}, '
            f'height={written[1]!r}, which are not pixels, and the image is '
            'not there to be measured')
        image['width'] = image['height'] = 0
        return math.inf, math.inf
    image['width'], image['height'] = own.width, own.height
    reader.findings.repair(
        'images without a size, that of the image file is used',
        f'{shown}, it has {own.width} x {own.height}')
    return own.width, own.height


def own_size(reader, image: dict):
    found = reader.images.find_any(other_names(image['file_name']))
    return found and reader.images.size(found)


def check_boxes(reader, boxes: np.ndarray) -> None:
    """Find boxes without area, and boxes that do not fit their image.

    Boxes that cannot be seen (no area, wholly outside) are left out, in
    training and evaluation; the reasons of all lost boxes are counted.

    Args:
        reader (CocoReader): Its annotations are changed.
        boxes (ndarray): Theirs, (n, 4).
    """
    findings = reader.findings
    sizes = image_sizes(reader)
    annotations = reader.lists['annotations']
    if not annotations:
        return
    for ann in annotations:
        if 'attributes' in ann and rotation_of(ann['attributes']):
            findings.warn(
                f'{reader.name("annotations", ann)}: '
                f'{ROTATED.format(rotation_of(ann["attributes"]))}')
    limits = np.array([sizes[ann['image_id']] for ann in annotations])
    warn_of_corners(reader, boxes, limits)
    ends = boxes[:, :2] + boxes[:, 2:]
    odd = ((boxes[:, 2:] < 1) | (boxes[:, :2] < -1) |
           (ends > limits + 1) | (boxes[:, :2] >= limits) | (ends <= 1))
    lost, remeasured = set(), {}
    images = {image['id']: image for image in reader.lists['images']}
    for i in np.flatnonzero(odd.any(1)).tolist():
        ann = annotations[i]
        x, y, width, height = ann['bbox']
        box = (x, y, x + width, y + height)
        size = limits[i]
        problem = box_problem(box, *size)
        if reader.images and problem and (
                OUTSIDE in problem or BEYOND in problem):
            if ann['image_id'] not in remeasured:
                remeasured[ann['image_id']] = remeasure(
                    reader, images[ann['image_id']], size)
            problem = box_problem(box, *remeasured[ann['image_id']])
        reason = None
        if problem and (NO_AREA in problem or OUTSIDE in problem):
            reason = 'without area' if NO_AREA in problem else \
                'outside of their image'
            lost.add(i)
        elif 0 <= min(box) and max(box) <= 1 and min(size) > 1:
            reason = NORMALISED
            problem = (f'bbox={ann["bbox"]} is {NORMALISED}: write x, y, '
                       'width, height in pixels')
        elif min(width, height) < 1:
            reason = 'smaller than a pixel'
            problem = (f'box of {width:g} x {height:g} pixels, '
                       f'area={ann["area"]:g}, is too small to be trained on')
        if reason:
            findings.lost[reason] += 1
        if problem:
            findings.warn(f'{reader.name("annotations", ann)}: {problem}')
    if lost:
        reader.lists['annotations'] = [
            ann for i, ann in enumerate(annotations) if i not in lost
        ]


def remeasure(reader, image: dict, size: tuple) -> tuple:
    """Read the size of an image that a box does not fit from its file, if that
    is there."""
    own = own_size(reader, image)
    problem = own and size_problem(own, *size)
    if not problem:
        return size
    verdict, text = problem
    if verdict == 'refused':
        reader.refuse('images', image, text)
        return size
    reader.findings.warn(f'{reader.name("images", image)} {text}')
    image['width'], image['height'] = own.width, own.height
    return own.width, own.height


def warn_of_corners(reader, boxes: np.ndarray, limits: np.ndarray) -> None:
    """Refuse a file whose boxes seem to be x1, y1, x2, y2."""
    beyond = (boxes[:, :2] + boxes[:, 2:] > limits + 1).any(1)
    corners = ((boxes[:, 2:] > boxes[:, :2]) &
               (boxes[:, 2:] <= limits + 1)).all()
    if beyond.mean() >= SHARE_OF_CORNERS and corners:
        example = reader.lists['annotations'][int(np.argmax(beyond))]
        reader.findings.refuse(
            f'{beyond.sum()} of {len(boxes)} boxes reach out of their image '
            'as x, y, width, height, and all fit as x1, y1, x2, y2, e.g. '
            f'{reader.name("annotations", example)}, bbox={example["bbox"]}: '
            'write x, y, width, height')
