"""PASCAL VOC annotations as one COCO annotation file."""
import json
import os
import os.path as osp
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence

from mmdet.datasets import VOCDataset, XMLDataset
from mmengine.fileio import list_from_file
from rich.progress import track

from .checked import check_voc_file

VOC_CLASSES = VOCDataset.METAINFO['classes']


def count_names(data_infos: Sequence[dict]) -> Counter:
    """How often each class name stands in the XML files of a data list."""
    return Counter(
        obj.findtext('name')
        for info in track(data_infos, description='class names')
        for obj in ET.parse(  # noqa: S314 (XMLDataset has parsed it before)
            info['xml_path']).getroot().findall('object'))


def voc_to_coco(data_root: str,
                image_sets: Sequence[str],
                out_file: str,
                classes: Sequence[str] = VOC_CLASSES) -> dict[str, int]:
    """Write the COCO annotation file of one or several VOC image sets.

    Boxes are read by MMDetection's ``XMLDataset``, so a training on either
    format sees the same numbers. Objects marked ``difficult`` are kept as
    ``iscrowd=1``, which COCO's evaluation and MMDetection ignore. Boxes
    without area are left out.

    Args:
        data_root (str): Folder that image paths in the file are relative to.
        image_sets (Sequence[str]): Lists of image names relative to
            ``data_root``, e.g. ``VOC2007/ImageSets/Main/test.txt``; images
            and annotations are beside the ``ImageSets`` folder.
        out_file (str): JSON file to write.
        classes (Sequence[str]): Class names in the order of their ids.
            Defaults to PASCAL VOC's.

    Returns:
        dict: Numbers of ``images``, ``boxes``, ``difficult`` among them,
        boxes ``without_area`` and of ``other_classes`` left out.

    Raises:
        FileNotFoundError: If an image set or an annotation does not exist.
        DataError: If an annotation is no XML or not complete; names it.
        ValueError: If no object has one of ``classes``; names those found.
    """
    images, annotations = [], []
    names: Counter = Counter()
    without_area = 0
    for image_set in image_sets:
        list_file = osp.join(data_root, image_set)
        if not osp.isfile(list_file):
            raise FileNotFoundError(f'image set {list_file!r} does not exist')
        voc_folder = osp.dirname(osp.dirname(osp.dirname(image_set)))
        for name in list_from_file(list_file):
            check_voc_file(
                osp.join(data_root, voc_folder, 'Annotations', f'{name}.xml'))
        data_infos = XMLDataset(
            data_root=data_root,
            ann_file=image_set,
            data_prefix=dict(sub_data_root=voc_folder),
            metainfo=dict(classes=tuple(classes)),
            test_mode=True,
            lazy_init=True).load_data_list()
        names += count_names(data_infos)
        for info in data_infos:
            images.append(
                dict(
                    id=len(images) + 1,
                    file_name=osp.relpath(info['img_path'], data_root),
                    width=info['width'],
                    height=info['height']))
            for instance in info['instances']:
                x1, y1, x2, y2 = instance['bbox']
                if x2 <= x1 or y2 <= y1:
                    without_area += 1
                    continue
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=len(images),
                        category_id=instance['bbox_label'] + 1,
                        bbox=[x1, y1, x2 - x1, y2 - y1],
                        area=(x2 - x1) * (y2 - y1),
                        iscrowd=instance['ignore_flag']))
    if not annotations:
        raise ValueError(f'classes={tuple(classes)!r}: no object has one of '
                         f'these names; the annotations have {dict(names)}')
    os.makedirs(osp.dirname(osp.abspath(out_file)), exist_ok=True)
    with open(out_file, 'w') as f:
        json.dump(
            dict(
                images=images,
                annotations=annotations,
                categories=[
                    dict(id=i, name=name)
                    for i, name in enumerate(classes, start=1)
                ]), f)
    return dict(
        images=len(images),
        boxes=len(annotations),
        difficult=sum(a['iscrowd'] for a in annotations),
        without_area=without_area,
        other_classes=sum(n for name, n in names.items()
                          if name not in classes))
