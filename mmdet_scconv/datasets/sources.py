"""COCO 2017 and PASCAL VOC 07+12: their archives, layout and counts."""
import json
import os
import os.path as osp
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .downloads import Archive
from .voc_to_coco import voc_to_coco


@dataclass(frozen=True)
class Source:
    """The archives and checks of one data set.

    Args:
        archives (tuple): Its archives.
        target (str): Folder to unpack them in, relative to the data root.
        check (Callable): Called with the data root, yields what is wrong.
        convert (Callable): Called with the data root when all is there,
            returns lines to print.
    """

    archives: tuple[Archive, ...]
    target: str
    check: Callable[[str], Iterator[str]]
    convert: Callable[[str], list[str]] = lambda root: []


VOC_HOST = 'http://host.robots.ox.ac.uk/pascal/VOC'
VOC_COUNTS = {
    'VOC2007/ImageSets/Main/trainval.txt': 5011,
    'VOC2007/ImageSets/Main/test.txt': 4952,
    'VOC2012/ImageSets/Main/trainval.txt': 11540,
}
COCO_HOST = 'http://images.cocodataset.org'
COCO_COUNTS = {'train2017': 118287, 'val2017': 5000}


def missing_files(folder: str, names: list[str]) -> Iterator[str]:
    """A line that tells how many of the files are not in the folder."""
    there = set(os.listdir(folder)) if osp.isdir(folder) else set()
    missing = [name for name in names if name not in there]
    if missing:
        yield (f'{folder}: {len(missing)} of {len(names)} files are missing, '
               f'{missing[0]} among them')


def check_voc(root: str, counts: dict[str, int] = VOC_COUNTS
              ) -> Iterator[str]:
    """Every image of the image sets is there, with its annotation."""
    devkit = osp.join(root, 'VOCdevkit')
    for image_set, count in counts.items():
        path = osp.join(devkit, image_set)
        if not osp.isfile(path):
            yield f'{path} is missing'
            continue
        with open(path) as f:
            names = f.read().split()
        if len(names) != count:
            yield f'{path} lists {len(names)} images, expected {count}'
        year = osp.join(devkit, image_set.split('/')[0])
        for folder, end in (('JPEGImages', 'jpg'), ('Annotations', 'xml')):
            yield from missing_files(
                osp.join(year, folder), [f'{name}.{end}' for name in names])


def convert_voc(root: str) -> list[str]:
    """COCO annotation files of the detection tables' two image sets."""
    devkit = osp.join(root, 'VOCdevkit')
    train_07, test_07, train_12 = VOC_COUNTS
    lines = []
    for name, image_sets in (('voc0712_trainval', [train_07, train_12]),
                             ('voc07_test', [test_07])):
        out_file = osp.join(devkit, 'annotations', f'{name}.json')
        counts = voc_to_coco(devkit, image_sets, out_file)
        lines.append(f'{out_file}: {counts["images"]} images, '
                     f'{counts["boxes"]} boxes, {counts["difficult"]} of them '
                     'difficult (kept as ignored)')
    return lines


def check_coco(root: str, counts: dict[str, int] = COCO_COUNTS
               ) -> Iterator[str]:
    """Every annotated image is there."""
    coco = osp.join(root, 'coco')
    for split, count in counts.items():
        path = osp.join(coco, 'annotations', f'instances_{split}.json')
        try:
            with open(path) as f:
                images = json.load(f)['images']
        except FileNotFoundError:
            yield f'{path} is missing'
            continue
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            yield f'{path} is damaged ({error})'
            continue
        if len(images) != count:
            yield f'{path} lists {len(images)} images, expected {count}'
        yield from missing_files(
            osp.join(coco, split), [image['file_name'] for image in images])


SOURCES = {
    'voc':
    Source(
        archives=(
            Archive(f'{VOC_HOST}/voc2007/VOCtrainval_06-Nov-2007.tar',
                    'c52e279531787c972589f7e41ab4ae64'),
            Archive(f'{VOC_HOST}/voc2007/VOCtest_06-Nov-2007.tar',
                    'b6e924de25625d8de591ea690078ad9f'),
            Archive(f'{VOC_HOST}/voc2012/VOCtrainval_11-May-2012.tar',
                    '6cd6e144f989b92b3379bac3b3de84fd'),
        ),
        target='',  # the archives hold VOCdevkit/
        check=check_voc,
        convert=convert_voc),
    'coco':
    Source(
        archives=(
            Archive(f'{COCO_HOST}/annotations/annotations_trainval2017.zip',
                    'f4bbac642086de4f52a3fdda2de5fa2c'),
            Archive(f'{COCO_HOST}/zips/val2017.zip',
                    '442b8da7639aecaf257c1dceb8ba8c80'),
            Archive(f'{COCO_HOST}/zips/train2017.zip',
                    'cced6f7f71b7629ddf16f17bbcfab6b2'),
        ),
        target='coco',
        check=check_coco),
}
