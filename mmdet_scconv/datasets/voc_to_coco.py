"""PASCAL VOC annotations as one COCO annotation file."""
import json
import os
import os.path as osp
from collections import Counter
from collections.abc import Sequence

from mmdet.datasets import VOCDataset

from ..atomic import write_atomically
from .checked_voc import CheckedXMLDataset
from .coco_json import coco_content

VOC_CLASSES = VOCDataset.METAINFO['classes']


def voc_to_coco(data_root: str,
                image_sets: Sequence[str],
                out_file: str,
                classes: Sequence[str] = VOC_CLASSES) -> dict[str, int]:
    """Write the COCO annotation file of one or several VOC image sets.

    Boxes are read as a training on VOC's format reads them, so that one on
    either format sees the same numbers. Objects marked ``difficult`` are kept
    as ``iscrowd=1``, which COCO's evaluation and MMDetection ignore.

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
        ``unusable`` boxes (no area, outside of the image) and boxes of
        ``other_classes``, both left out.

    Raises:
        FileNotFoundError: If an image set or an annotation does not exist.
        DataError: If anything that was read is refused; names it.
        ValueError: If no object has one of ``classes``; names those found.
    """
    images, annotations = [], []
    other_classes, unusable = Counter(), Counter()
    for image_set in image_sets:
        list_file = osp.join(data_root, image_set)
        if not osp.isfile(list_file):
            raise FileNotFoundError(f'image set {list_file!r} does not exist')
        voc_folder = osp.dirname(osp.dirname(osp.dirname(image_set)))
        dataset = CheckedXMLDataset(
            data_root=data_root,
            ann_file=image_set,
            data_prefix=dict(sub_data_root=voc_folder),
            metainfo=dict(classes=tuple(classes)),
            lazy_init=True)
        data_infos = dataset.load_data_list()
        dataset.findings.say()
        dataset.findings.raise_refused()
        other_classes += dataset.unknown
        unusable += dataset.findings.lost
        for info in data_infos:
            images.append(
                dict(
                    id=len(images) + 1,
                    file_name=osp.relpath(info['img_path'], data_root),
                    width=info['width'],
                    height=info['height']))
            for instance in info['instances']:
                x1, y1, x2, y2 = instance['bbox']
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
                         f'these names; the annotations have '
                         f'{dict(other_classes)}')
    os.makedirs(osp.dirname(osp.abspath(out_file)), exist_ok=True)
    content = coco_content(images, annotations, classes)
    write_atomically(out_file, json.dumps(content).encode())
    return dict(
        images=len(images),
        boxes=len(annotations),
        difficult=sum(a['iscrowd'] for a in annotations),
        unusable=unusable.total(),
        other_classes=other_classes.total())
