"""Imitations of VOC 07+12 and COCO 2017 with generated pictures.

Archives with the names, layout and counts of the real ones: image sets,
annotations with all their entries, difficult and crowd boxes, parts, images
without boxes. Their pictures are a few generated ones of ``SIZE`` pixels,
repeated as often as needed. For tools/misc/dress_rehearsal.py.
"""
import hashlib
import io
import json
import os
import os.path as osp
import tarfile
import zipfile
from collections.abc import Iterator
from itertools import cycle, islice

import cv2
import numpy as np
from mmdet.datasets import CocoDataset, VOCDataset
from rich.progress import track

from .sources import COCO_COUNTS, SOURCES, VOC_COUNTS

SIZE = (40, 48)  # height, width: MMDetection's VOC drops images under 32
GRID = (2, 4)  # rows and columns of objects
OBJECTS = GRID[0] * GRID[1]
VOC_CLASSES = VOCDataset.METAINFO['classes']
COCO_CLASSES = CocoDataset.METAINFO['classes']
# COCO's categories are numbered 1 to 90, with gaps
COCO_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = [i for i in range(1, 91) if i not in COCO_GAPS]
# boxes, images without any, and crowds
COCO_BOXES = dict(train2017=860001, val2017=36781)
COCO_EMPTY = dict(train2017=1021, val2017=48)
COCO_CROWDS = dict(train2017=10498, val2017=446)
SUMS = 'md5sums.txt'


def picture(labels: list[int], classes: int, size: tuple[int, int] = SIZE
            ) -> tuple[bytes, list[tuple]]:
    """A picture with one rectangle for each object; the colour stands for the
    class.

    Args:
        labels (list): Classes of up to ``OBJECTS`` objects.
        classes (int): How many there are.
        size (tuple): Height and width in pixels. Defaults to ``SIZE``.

    Returns:
        tuple: The JPEG file, and the boxes (x1, y1, x2, y2) in pixels.
    """
    height, width = (pixels // n for pixels, n in zip(size, GRID))
    image = np.full((*size, 3), 128, np.uint8)
    boxes = []
    for i, label in enumerate(labels):
        hsv = np.uint8([[[180 * label // classes, 255,
                          255 if label % 2 else 160]]])
        x1, y1 = i % GRID[1] * width + 1, i // GRID[1] * height + 1
        box = (x1, y1, x1 + width - 3, y1 + height - 3 - label % 4)
        image[box[1]:box[3], box[0]:box[2]] = cv2.cvtColor(
            hsv, cv2.COLOR_HSV2BGR)[0, 0]
        boxes.append(box)
    return cv2.imencode('.jpg', image)[1].tobytes(), boxes


def pictures(classes: int, counts: tuple[int, ...]) -> list[tuple]:
    """A few pictures: file, boxes, labels. Every class occurs."""
    labels = cycle(range(classes))
    made = []
    for count in islice(cycle(counts), 2 * classes):
        chosen = list(islice(labels, count))
        made.append((*picture(chosen, classes), chosen))
    return made


def voc_xml(year: str, name: str, boxes: list[tuple], labels: list[int]
            ) -> str:
    """An annotation as VOC's are, with 1-based, inclusive boxes."""
    objects = ''
    for i, (box, label) in enumerate(zip(boxes, labels)):
        x1, y1, x2, y2 = box
        bndbox = (f'<bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>'
                  f'<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>')
        part = (f'<part><name>head</name>{bndbox}</part>'
                if VOC_CLASSES[label] == 'person' and year == '2012' else '')
        objects += (
            f'<object><name>{VOC_CLASSES[label]}</name><pose>Unspecified'
            f'</pose><truncated>0</truncated><difficult>{int(i == 3)}'
            f'</difficult>{bndbox}{part}</object>')
    return (f'<annotation><folder>VOC{year}</folder><filename>{name}.jpg'
            f'</filename><source><database>The VOC{year} Database</database>'
            '<annotation>PASCAL VOC</annotation><image>flickr</image></source>'
            f'<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height><depth>3'
            f'</depth></size><segmented>0</segmented>{objects}</annotation>')


def voc_names() -> dict[str, list[str]]:
    """Names of the images of each image set."""
    names_07 = [f'{i:06d}' for i in range(1, 9964)]
    trainval = set(names_07[::2]) | set(names_07[1:59:2])
    names_12 = [f'{2007 + i % 6}_{i:06d}' for i in range(11540)]
    return dict(zip(VOC_COUNTS, (
        sorted(trainval), [n for n in names_07 if n not in trainval],
        sorted(names_12))))


def add_file(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def voc_image_sets(image_set: str, names: list[str], labels: list[list[int]]
                   ) -> Iterator[tuple[str, str]]:
    """The list of images, and for each class a list that marks the images with
    it."""
    yield image_set, '\n'.join(names) + '\n'
    for i, label in enumerate(VOC_CLASSES):
        lines = (f'{name} {1 if i in has else -1:2}'
                 for name, has in zip(names, labels))
        yield (image_set.replace('Main/', f'Main/{label}_'),
               '\n'.join(lines) + '\n')


def write_voc(folder: str) -> None:
    """Write VOC's three archives."""
    made = pictures(len(VOC_CLASSES), (1, 2, 4, 3))
    archives = dict(zip(
        ('VOC2007/ImageSets/Main/trainval.txt',
         'VOC2007/ImageSets/Main/test.txt',
         'VOC2012/ImageSets/Main/trainval.txt'), SOURCES['voc'].archives))
    for image_set, names in voc_names().items():
        year = image_set[3:7]
        path = osp.join(folder, archives[image_set].name)
        with tarfile.open(path, 'w') as tar:
            chosen = [labels for _, (_, _, labels) in zip(names, cycle(made))]
            for name, text in voc_image_sets(image_set, names, chosen):
                add_file(tar, f'VOCdevkit/{name}', text.encode())
            for name, (jpeg, boxes, labels) in track(
                    zip(names, cycle(made)), archives[image_set].name,
                    total=len(names)):
                root = f'VOCdevkit/VOC{year}'
                add_file(tar, f'{root}/JPEGImages/{name}.jpg', jpeg)
                add_file(tar, f'{root}/Annotations/{name}.xml',
                         voc_xml(year, name, boxes, labels).encode())


def coco_json(split: str, names: list[str], made: list[tuple]) -> dict:
    """An annotation file of COCO, with as many boxes as the real one."""
    used = len(names) - COCO_EMPTY[split]
    images = [
        dict(license=1 + i % 8, file_name=name, width=SIZE[1],
             height=SIZE[0], date_captured='2013-11-14 11:18:45',
             coco_url=f'http://images.cocodataset.org/{split}/{name}',
             flickr_url='http://farm7.staticflickr.com/6116/'
             f'{int(name[:-4])}_z.jpg', id=int(name[:-4]))
        for i, name in enumerate(names)
    ]
    annotations = []
    boxes_left, crowds_left = COCO_BOXES[split], COCO_CROWDS[split]
    for i, (image, (_, boxes, labels)) in enumerate(
            zip(images[:used], cycle(made))):
        # an equal share of the remaining boxes, limited by the picture's
        # objects
        count = min(-(-boxes_left // (used - i)), len(boxes))
        boxes_left -= count
        for j in range(count):
            x1, y1, x2, y2 = boxes[j]
            crowd = j == 0 and i % 10 == 0 and crowds_left > 0
            crowds_left -= crowd
            annotations.append(dict(
                segmentation=dict(
                    counts=[SIZE[0] * x1, SIZE[0] * (x2 - x1),
                            SIZE[0] * (SIZE[1] - x2)], size=list(SIZE))
                if crowd else [[x1, y1, x2, y1, x2, y2, x1, y2]],
                area=float((x2 - x1) * (y2 - y1)), iscrowd=int(crowd),
                image_id=image['id'],
                bbox=[float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
                category_id=COCO_IDS[labels[j]],
                id=len(annotations) + 1))
    return dict(
        info=dict(description='COCO 2017 Dataset', year=2017, version='1.0'),
        licenses=[dict(id=i, name='a license', url='http://creativecommons.org')
                  for i in range(1, 9)],
        images=images,
        annotations=annotations,
        categories=coco_categories())


def coco_categories() -> list[dict]:
    return [dict(supercategory='thing', id=i, name=name)
            for i, name in zip(COCO_IDS, COCO_CLASSES)]


def write_coco_sample(folder: str, count: int,
                      size: tuple[int, int] = (480, 640)) -> None:
    """Write a few images in COCO's layout: ``folder`` has ``images/`` and
    ``instances.json``.

    Args:
        folder (str): Is created.
        count (int): Of images, each with ``OBJECTS`` boxes.
        size (tuple): Height and width in pixels. Defaults to COCO's most
            frequent one.
    """
    os.makedirs(osp.join(folder, 'images'), exist_ok=True)
    labels = cycle(range(len(COCO_CLASSES)))
    images, annotations = [], []
    for i in range(1, count + 1):
        chosen = list(islice(labels, OBJECTS))
        jpeg, boxes = picture(chosen, len(COCO_CLASSES), size)
        name = f'{i:012d}.jpg'
        with open(osp.join(folder, 'images', name), 'wb') as f:
            f.write(jpeg)
        images.append(
            dict(id=i, file_name=name, height=size[0], width=size[1]))
        for label, (x1, y1, x2, y2) in zip(chosen, boxes):
            annotations.append(dict(
                id=len(annotations) + 1, image_id=i, iscrowd=0,
                category_id=COCO_IDS[label], bbox=[x1, y1, x2 - x1, y2 - y1],
                area=(x2 - x1) * (y2 - y1)))
    with open(osp.join(folder, 'instances.json'), 'w') as f:
        json.dump(dict(images=images, annotations=annotations,
                       categories=coco_categories()), f)


def write_coco(folder: str) -> None:
    """Write COCO's three archives."""
    made = pictures(len(COCO_CLASSES), (OBJECTS, ))
    start = 0
    jsons = {}
    for split, count in COCO_COUNTS.items():
        names = [f'{4 * (start + i) + 9:012d}.jpg' for i in range(count)]
        start += count
        jsons[split] = json.dumps(coco_json(split, names, made))
        with zipfile.ZipFile(osp.join(folder, f'{split}.zip'), 'w') as archive:
            for name, (jpeg, *_) in track(
                    zip(names, cycle(made)), f'{split}.zip', total=count):
                archive.writestr(f'{split}/{name}', jpeg)
    path = osp.join(folder, 'annotations_trainval2017.zip')
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, compresslevel=1
                         ) as archive:
        for split, text in jsons.items():
            archive.writestr(f'annotations/instances_{split}.json', text)


def write_archives(dataset: str, folder: str) -> str:
    """Write a data set's archives, and their sums in md5sum's format.

    Args:
        dataset (str): 'voc' or 'coco'.
        folder (str): Where to.

    Returns:
        str: The file with the sums.
    """
    os.makedirs(folder, exist_ok=True)
    dict(voc=write_voc, coco=write_coco)[dataset](folder)
    sums = osp.join(folder, SUMS)
    with open(sums, 'w') as out:
        for archive in SOURCES[dataset].archives:
            with open(osp.join(folder, archive.name), 'rb') as f:
                digest = hashlib.file_digest(
                    f, lambda: hashlib.md5(usedforsecurity=False))
            out.write(f'{digest.hexdigest()}  {archive.name}\n')
    return sums
