"""The rehearsal's archives equal the real ones except for the pictures.

The rehearsal itself: ``pytest -m slow tests/test_datasets/test_rehearsal.py``
or ``python tools/misc/dress_rehearsal.py FOLDER``.
"""
import json
import subprocess
import sys
import tarfile
from collections import Counter

import pytest
from conftest import REPO
from mmdet.registry import DATASETS

from mmdet_scconv.datasets.downloads import read_sums
from mmdet_scconv.datasets.rehearsal import (
    COCO_BOXES,
    COCO_CLASSES,
    COCO_EMPTY,
    OBJECTS,
    coco_json,
    pictures,
    write_archives,
)
from mmdet_scconv.datasets.sources import COCO_COUNTS, SOURCES, VOC_COUNTS


def test_voc(tmp_path):
    sums = read_sums(write_archives('voc', str(tmp_path)))
    assert set(sums) == {archive.name for archive in SOURCES['voc'].archives}
    files = Counter()
    listed = {}
    for name in sums:
        with tarfile.open(tmp_path / name) as archive:
            for member in archive:
                parts = member.name.split('/')
                files['/'.join(parts[1:3])] += 1
                image_set = '/'.join(parts[1:])
                if image_set in VOC_COUNTS:
                    listed[image_set] = len(
                        archive.extractfile(member).read().split())
    assert listed == VOC_COUNTS
    for folder in ('JPEGImages', 'Annotations'):
        assert files[f'VOC2007/{folder}'] == 5011 + 4952
        assert files[f'VOC2012/{folder}'] == 11540


@pytest.mark.parametrize('split', [
    'val2017', pytest.param('train2017', marks=pytest.mark.slow)])
def test_coco(tmp_path, split):
    count = COCO_COUNTS[split]
    names = [f'{4 * i + 9:012d}.jpg' for i in range(count)]
    content = coco_json(split, names, pictures(80, (OBJECTS, )))
    assert len(content['images']) == count
    assert len(content['annotations']) == COCO_BOXES[split]
    with_boxes = {ann['image_id'] for ann in content['annotations']}
    assert count - len(with_boxes) == COCO_EMPTY[split]
    if split != 'val2017':  # a large file
        return
    (tmp_path / 'a.json').write_text(json.dumps(content))
    dataset = DATASETS.build(dict(
        type='CheckedCocoDataset', data_root=str(tmp_path),
        ann_file='a.json', metainfo=dict(classes=COCO_CLASSES),
        data_prefix=dict(img=''), pipeline=[]))
    assert len(dataset) == count
    assert not list(dataset.findings)


@pytest.mark.slow
def test_dress_rehearsal(tmp_path):
    done = subprocess.run([
        sys.executable,
        str(REPO / 'tools/misc/dress_rehearsal.py'),
        str(tmp_path / 'rehearsal')
    ])
    assert done.returncode == 0
