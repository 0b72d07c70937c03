"""MMDetection's VOC and COCO data sets, with errors that name the file.

MMDetection's own raise "no element found" for a damaged XML file or KeyError
for a JSON file without categories, train on background alone when no class
name fits, and give wrong labels when a class is missing from a COCO file.
"""
import json
import logging
import math
import os.path as osp
import xml.etree.ElementTree as ET
from collections import Counter

import cv2
from mmdet.datasets import CocoDataset, XMLDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.registry import DATASETS
from mmengine.fileio import get, get_local_path, list_from_file
from mmengine.logging import print_log
from PIL import Image

HOW_TO_LIST = 'tools/misc/check_dataset.py CONFIG lists them'
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
NO_AREA = 'has no area'
COCO_KEYS = dict(
    images=('id', 'file_name', 'height', 'width'),
    annotations=('id', 'image_id', 'category_id', 'bbox'),
    categories=('id', 'name'))
VOC_BOX = ('xmin', 'ymin', 'xmax', 'ymax')


class DataError(ValueError):
    """Data that cannot be trained on; names the file and what is wrong."""


def flaw_of_box(box: list, width: float, height: float) -> str | None:
    """What is wrong with a box (x1, y1, x2, y2) of an image, None if
    nothing. All in pixels."""
    x1, y1, x2, y2 = box
    shown = ', '.join(f'{value:g}' for value in box)
    if not all(map(math.isfinite, box)):
        return f'box ({shown}) is not finite'
    if x2 <= x1 or y2 <= y1:
        return f'box ({shown}) {NO_AREA}'
    if min(x2, width) <= max(x1, 0) or min(y2, height) <= max(y1, 0):
        return f'box ({shown}) lies outside the {width} x {height} image'
    # VOC's own boxes and rounding reach over by a pixel
    if x1 < -1 or y1 < -1 or x2 > width + 1 or y2 > height + 1:
        return (f'box ({shown}) reaches out of the {width} x {height} image '
                'and is clipped')
    return None


class CheckedDataset:
    """What both formats have in common.

    Attributes:
        flaws (list): (file, what is wrong) of annotations that are not used
            as they are.
        unknown (Counter): Boxes by class name that is not in ``classes``.
    """

    def full_init(self) -> None:
        """
        Raises:
            DataError: If ``classes`` are no names, the data is not usable,
                or there is a ``proposal_file``.
        """
        if self._fully_initialized:
            return
        classes = self.metainfo.get('classes')
        if not isinstance(classes, list | tuple) or not classes:
            raise DataError(f'metainfo classes={classes!r} is not valid: a '
                            "tuple of names, e.g. classes=('object', )")
        if self.proposal_file is not None:
            raise DataError(
                f'proposal_file={self.proposal_file!r} is not read here: it '
                'is a pickle, which can run code of whoever made it. If you '
                'trust it, take the data set of MMDetection itself')
        self.flaws = []
        self.unknown = Counter()
        self.known = 0
        super().full_init()

    def filter_data(self) -> list[dict]:
        """
        Raises:
            DataError: If no image is left, or no box has a known class.
        """
        classes = self.metainfo['classes']
        if self.unknown:
            names = ', '.join(f'{name!r} ({count})'
                              for name, count in self.unknown.most_common(5))
            found = (f'{self.ann_file}: boxes of classes that are not in '
                     f'metainfo classes={tuple(classes)}: {names}')
            if not self.known:
                raise DataError(f'{found}; no other box is there')
            print_log(f'{found}; they are left out', 'current',
                      logging.WARNING)
        if self.flaws:
            print_log(
                f'{self.ann_file}: {len(self.flaws)} annotations are not '
                f'right, {": ".join(self.flaws[0])} among them; '
                f'{HOW_TO_LIST}', 'current', level=logging.WARNING)
        images = super().filter_data()
        if not images:
            raise DataError(
                f'{self.ann_file}: no images' +
                (f', all {len(self.data_list)} are left out by filter_cfg='
                 f'{self.filter_cfg}' if self.data_list else ' are listed'))
        return images

    def prepare_data(self, idx: int) -> dict | None:
        """
        Raises:
            DataError: If the image cannot be read or used, or is turned
                against its annotation; names it.
        """
        info = self.get_data_info(idx)
        path = info['img_path']
        try:
            data = super().prepare_data(idx)
        except FileNotFoundError:
            raise  # names the file
        except Exception as error:
            what = ('is empty' if osp.isfile(path) and not osp.getsize(path)
                    else f'cannot be used: {error or type(error).__name__}')
            raise DataError(f'image {path} {what}') from error
        shape = getattr((data or {}).get('data_samples'), 'ori_shape', None)
        annotated = (info['height'], info['width'])
        if shape is not None and tuple(shape) == annotated[::-1] != annotated:
            raise DataError(
                f'image {path} is {shape[1]} x {shape[0]} when its EXIF '
                'orientation is applied, as it is, and annotated as '
                f'{shape[0]} x {shape[1]}: its boxes would be wrong. Set '
                "color_type='color_ignore_orientation' for LoadImageFromFile "
                'in both pipelines, or rewrite the images upright')
        return data


def flaw_of_voc(root: ET.Element) -> str | None:
    """What is missing or not a number in a VOC annotation."""
    size = root.find('size')
    numbers = [] if size is None else [(size, 'size', 'width'),
                                       (size, 'size', 'height')]
    for i, node in enumerate(root.findall('object'), start=1):
        name = node.findtext('name')
        if not (name or '').strip():
            return f'object {i} has no name'
        box = node.find('bndbox')
        if box is None:
            return f'object {i} ({name}) has no bndbox'
        numbers += [(box, f'object {i} ({name})', tag) for tag in VOC_BOX]
        if node.find('difficult') is not None:
            numbers.append((node, f'object {i} ({name})', 'difficult'))
    for node, owner, tag in numbers:
        text = node.findtext(tag)
        try:
            finite = math.isfinite(float(text))
        except (TypeError, ValueError):
            finite = False
        if not finite:
            return f'{owner} has {tag}={text!r}, which is not a number'
    return None


def check_voc_file(path: str, backend_args: dict | None = None) -> None:
    """
    Raises:
        FileNotFoundError: If there is no such file.
        DataError: If it is no XML, or is not complete.
    """
    content = get(path, backend_args=backend_args)
    # nested ones could fill the memory; in UTF-16 there are zeros between
    if b'<!ENTITY' in content.replace(b'\0', b''):
        raise DataError(f'{path} defines XML entities, which annotations do '
                        'not need')
    try:
        root = ET.fromstring(content)  # noqa: S314 (without entities)
    except ET.ParseError as error:
        raise DataError(f'{path} is no valid XML: {error}') from error
    flaw = flaw_of_voc(root)
    if flaw:
        raise DataError(f'{path}: {flaw}')


@DATASETS.register_module()
class CheckedXMLDataset(CheckedDataset, XMLDataset):
    """XMLDataset (PASCAL VOC's format) with checked annotations.

    Images may have another suffix than ``.jpg``; empty lines of the image
    set are skipped. Boxes without area are left out.
    """

    def load_data_list(self) -> list[dict]:
        """
        Raises:
            FileNotFoundError: If the image set or an annotation is missing.
            DataError: If an annotation cannot be read.
        """
        classes = self.metainfo['classes']
        self.cat2label = {name: i for i, name in enumerate(classes)}
        lines = list_from_file(self.ann_file, backend_args=self.backend_args)
        names = [line.strip() for line in lines]
        return [
            self.parse_data_info(
                dict(
                    img_id=name,
                    file_name=self.find_image(name),
                    xml_path=osp.join(self.sub_data_root, self.ann_subdir,
                                      f'{name}.xml'))) for name in names
            if name
        ]

    def find_image(self, name: str) -> str:
        stem = osp.join(self.img_subdir, name)
        for suffix in SUFFIXES:
            if osp.isfile(osp.join(self.sub_data_root, stem + suffix)):
                return stem + suffix
        return stem + SUFFIXES[0]

    def parse_data_info(self, img_info: dict) -> dict:
        path = img_info['xml_path']
        check_voc_file(path, self.backend_args)
        try:
            info = super().parse_data_info(img_info)
        except (AttributeError, ValueError, cv2.error) as error:
            raise DataError(f'{path}, or its image: {error}') from error
        if min(info['width'], info['height']) <= 0:
            self.flaws.append((path, 'has no image size'))
            with get_local_path(info['img_path'],
                                self.backend_args) as image:
                info['width'], info['height'] = Image.open(image).size
        usable = []
        for instance in info['instances']:
            flaw = flaw_of_box(instance['bbox'], info['width'],
                               info['height'])
            if flaw:
                self.flaws.append((path, flaw))
            if not (flaw and flaw.endswith(NO_AREA)):
                usable.append(instance)
        info['instances'] = usable
        return info

    def _parse_instance_info(self, raw_ann_info: ET.ElementTree,
                             minus_one: bool = True) -> list[dict]:
        names = [node.findtext('name')
                 for node in raw_ann_info.findall('object')]
        unknown = [name for name in names if name not in self.cat2label]
        self.unknown.update(unknown)
        self.known += len(names) - len(unknown)
        return super()._parse_instance_info(raw_ann_info, minus_one)


class CheckedCOCO(COCO):
    """pycocotools' reader, which checks what it has read."""

    def createIndex(self) -> None:
        """
        Raises:
            DataError: If an entry is missing or wrong; names it.
        """
        for key in ('images', 'annotations', 'categories'):
            entries = self.dataset.get(key)
            if not isinstance(entries, list):
                raise DataError(f'has no list {key!r}')
            for i, entry in enumerate(entries):
                missing = [k for k in COCO_KEYS[key] if k not in entry]
                if missing:
                    raise DataError(
                        f'{key}[{i}] has no {" and no ".join(missing)}')
        images = {image['id'] for image in self.dataset['images']}
        for i, image in enumerate(self.dataset['images']):
            size = image['width'], image['height']
            if not all(isinstance(n, int) and n > 0 for n in size):
                raise DataError(f'images[{i}] ({image["file_name"]}) has '
                                f'width={size[0]!r}, height={size[1]!r}, '
                                'which are not pixels')
        categories = {c['id'] for c in self.dataset['categories']}
        for i, ann in enumerate(self.dataset['annotations']):
            name = f'annotations[{i}] (id {ann["id"]})'
            if ann['image_id'] not in images:
                raise DataError(f'{name} is of image_id {ann["image_id"]!r}, '
                                'which is not among the images')
            if ann['category_id'] not in categories:
                raise DataError(
                    f'{name} is of category_id {ann["category_id"]!r}, which '
                    'is not among the categories')
            box = ann['bbox']
            if len(box) != 4 or not all(
                    isinstance(value, int | float) and math.isfinite(value)
                    for value in box):
                raise DataError(f'{name} has bbox={box}, which is not four '
                                'numbers x, y, width, height')
            # not every tool writes it, and MMDetection reads it
            ann.setdefault('area', box[2] * box[3])
        super().createIndex()

    def get_cat_ids(self, cat_names: tuple = (), **kwargs) -> list[int]:
        """
        Raises:
            DataError: If a name is missing, or in another order than here:
                MMDetection numbers the names that it finds, in this order.
        """
        listed = [category['name'] for category in self.dataset['categories']]
        missing = [name for name in cat_names if name not in listed]
        if missing:
            raise DataError(f'has no categories {missing}, which metainfo '
                            f'classes={tuple(cat_names)} names; it has '
                            f'{listed}')
        ordered = tuple(name for name in listed if name in cat_names)
        if ordered != tuple(cat_names):
            raise DataError('has the categories in another order than '
                            'metainfo classes: predictions would be given '
                            'wrong names. Set metainfo=dict(classes='
                            f'{ordered})')
        return super().get_cat_ids(cat_names, **kwargs)


@DATASETS.register_module()
class CheckedCocoDataset(CheckedDataset, CocoDataset):
    """CocoDataset with a checked annotation file.

    MMDetection numbers the classes in the file's order, whatever the order
    in ``metainfo``: names and numbers of the classes have to agree.
    """

    COCOAPI = CheckedCOCO

    def load_data_list(self) -> list[dict]:
        """
        Raises:
            FileNotFoundError: If the annotation file is missing.
            DataError: If it cannot be read, or does not have the classes.
        """
        try:
            return super().load_data_list()
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DataError(
                f'{self.ann_file} is no valid JSON: {error}') from error
        except (DataError, AssertionError) as error:
            raise DataError(f'{self.ann_file}: {error}') from error

    def parse_data_info(self, raw_data_info: dict) -> dict:
        image = raw_data_info['raw_img_info']
        for ann in raw_data_info['raw_ann_info']:
            if ann['category_id'] in self.cat2label:
                self.known += 1
            else:
                self.unknown[self.coco.cats[ann['category_id']]['name']] += 1
            x, y, width, height = ann['bbox']
            flaw = flaw_of_box((x, y, x + width, y + height), image['width'],
                               image['height'])
            if flaw is None and (ann['area'] <= 0 or min(width, height) < 1):
                flaw = (f'box of {width:g} x {height:g} pixels, '
                        f'area={ann["area"]:g}, is left out as too small')
            if flaw:
                self.flaws.append((image['file_name'], flaw))
        return super().parse_data_info(raw_data_info)
