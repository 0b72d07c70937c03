"""How much longer the checked data sets take to load than MMDetection's, at
the size of COCO train2017 and of VOC 07+12. Measured in CPU seconds, because
other processes disturb the wall clock.

    pytest -m slow -s tests/test_datasets/test_loading_time.py
"""
import gc
import json
import statistics
import time

import numpy as np
import pytest
from mmdet.datasets import CocoDataset, VOCDataset
from mmdet.registry import DATASETS

ROUNDS = 3
XML = """<annotation>
	<folder>VOC2007</folder>
	<filename>{name}.jpg</filename>
	<source><database>The VOC2007 Database</database></source>
	<size>
		<width>500</width>
		<height>375</height>
		<depth>3</depth>
	</size>
	<segmented>0</segmented>
{objects}</annotation>
"""
OBJECT = """	<object>
		<name>{name}</name>
		<pose>Left</pose>
		<truncated>1</truncated>
		<difficult>0</difficult>
		<bndbox>
			<xmin>{x}</xmin>
			<ymin>{y}</ymin>
			<xmax>{x2}</xmax>
			<ymax>{y2}</ymax>
		</bndbox>
	</object>
"""


def write_coco(path, images=118287, boxes=860001):
    rng = np.random.default_rng(0)
    names = CocoDataset.METAINFO['classes']
    places = (rng.random((boxes, 4)) * 200 + 20).round(2).tolist()
    of_image = rng.integers(images, size=boxes).tolist()
    of_class = rng.integers(len(names), size=boxes).tolist()
    annotations = [
        dict(
            segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
            area=round(w * h, 4),
            iscrowd=int(i % 100 == 0),
            image_id=3 * image + 1,
            bbox=[x, y, w, h],
            category_id=category + 1,
            id=900000 + i)
        for i, ((x, y, w, h), image, category) in enumerate(
            zip(places, of_image, of_class))
    ]
    path.write_text(json.dumps(dict(
        images=[
            dict(license=3, file_name=f'{i:012d}.jpg', height=480, width=640,
                 date_captured='2013-11-14 11:18:45', id=3 * i + 1)
            for i in range(images)
        ],
        annotations=annotations,
        categories=[dict(supercategory='thing', id=i, name=name)
                    for i, name in enumerate(names, start=1)])))


def write_voc(root, images=16551):
    rng = np.random.default_rng(0)
    names = VOCDataset.METAINFO['classes']
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True)
    (root / 'ImageSets/Main/train.txt').write_text(
        '\n'.join(f'{i:06d}' for i in range(images)))
    for i in range(images):
        (root / f'JPEGImages/{i:06d}.jpg').touch()
        objects = ''.join(
            OBJECT.format(name=names[k], x=x, y=y, x2=x + 99, y2=y + 88)
            for x, y, k in rng.integers(1, [300, 200, 20], size=(
                rng.integers(1, 5), 3)).tolist())
        (root / f'Annotations/{i:06d}.xml').write_text(
            XML.format(name=f'{i:06d}', objects=objects))


def ratio(stock, ours):
    """Interleaved, of the medians."""
    seconds = dict(stock=[], ours=[])
    for _ in range(ROUNDS):
        for name, cfg in (('stock', stock), ('ours', ours)):
            gc.collect()
            start = time.process_time()
            dataset = DATASETS.build(cfg)
            seconds[name].append(time.process_time() - start)
            del dataset
    medians = {name: statistics.median(s) for name, s in seconds.items()}
    print(f'\n{ours["type"]}: {seconds}, ratio of the medians '
          f'{medians["ours"] / medians["stock"]:.2f}')
    return medians['ours'] / medians['stock']


@pytest.mark.slow
def test_coco(tmp_path):
    write_coco(tmp_path / 'train.json')
    cfg = dict(data_root=str(tmp_path), ann_file='train.json',
               data_prefix=dict(img='train2017/'), pipeline=[],
               filter_cfg=dict(filter_empty_gt=True, min_size=32))
    assert ratio(dict(cfg, type='CocoDataset'),
                 dict(cfg, type='CheckedCocoDataset')) < 1.3


@pytest.mark.slow
def test_voc(tmp_path):
    write_voc(tmp_path)
    cfg = dict(data_root=str(tmp_path), ann_file='ImageSets/Main/train.txt',
               data_prefix=dict(sub_data_root=''), pipeline=[],
               filter_cfg=dict(filter_empty_gt=True, min_size=32))
    assert ratio(dict(cfg, type='VOCDataset'),
                 dict(cfg, type='CheckedVOCDataset')) < 1.6
