"""A data set of two images in either format, for tests that damage it."""
import copy
import json
from functools import cache

import pytest
from conftest import BOXES, REPO, write_coco, write_voc
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmdet_scconv.datasets.check import find_problems

CONFIG = 'configs/custom/faster-rcnn_scconv-r18_fpn_12e_{}-format.py'


@cache
def load(name):
    return Config.fromfile(REPO / CONFIG.format(name))


class Data:
    """One format's data set of two images on the disk."""

    def __init__(self, root, name):
        self.root, self.name = root, name
        init_default_scope('mmdet')
        self.cfg = cfg = copy.deepcopy(load(name))
        self.train = cfg.train_dataloader.dataset
        self.test = cfg.val_dataloader.dataset
        for dataset in (self.train, self.test):
            dataset.data_root = str(root)
            dataset.ann_file = self.train.ann_file
        if name == 'voc':
            write_voc(root, ('object', ), dict(train=['a', 'b']))
            self.images = root / 'JPEGImages'
            self.ann_file = root / 'ImageSets/Main/train.txt'
        else:
            write_coco(root, ('object', ),
                       {'annotations/train.json': root / 'images'})
            self.images = root / 'images'
            self.ann_file = root / 'annotations/train.json'
        self.image = sorted(self.images.iterdir())[0]

    def build(self, test=False, **options):
        return DATASETS.build(dict(
            self.test if test else self.train, serialize_data=False,
            **options))

    def evaluator(self):
        """The config's metrics, on the same file."""
        metrics = self.cfg.val_evaluator
        metrics = [dict(m) for m in (
            metrics if isinstance(metrics, list) else [metrics])]
        if self.name == 'coco':
            metrics[0]['ann_file'] = str(self.ann_file)
        return metrics

    def findings(self, test=False, **options):
        """Of tools/misc/check_dataset.py."""
        return list(find_problems(
            dict(self.test if test else self.train, **options)))

    def warnings(self):
        """Findings that make the check fail."""
        return [finding.text for finding in self.findings()
                if finding.verdict != 'repaired']

    def set_box(self, box):
        """Of the first image: x1, y1, x2, y2."""
        x1, y1, x2, y2 = box
        if self.name == 'voc':
            self.edit_xml({
                f'<{tag}>{old}</{tag}>': f'<{tag}>{new + 1}</{tag}>'
                for tag, old, new in zip(
                    ('xmin', 'ymin', 'xmax', 'ymax'), BOXES[0], box)
            })
        else:
            self.edit_json(lambda data: data['annotations'][0].update(
                bbox=[x1, y1, x2 - x1, y2 - y1],
                area=abs((x2 - x1) * (y2 - y1))))

    def edit_xml(self, replacements):
        path = self.root / 'Annotations/a.xml'
        text = path.read_text()
        for old, new in replacements.items():
            assert old in text
            text = text.replace(old, new, 1)
        path.write_text(text)

    def edit_json(self, edit):
        data = json.loads(self.ann_file.read_text())
        edit(data)
        self.ann_file.write_text(json.dumps(data))


@pytest.fixture(params=['voc', 'coco'])
def data(request, tmp_path):
    return Data(tmp_path, request.param)


@pytest.fixture
def voc(tmp_path):
    return Data(tmp_path, 'voc')


@pytest.fixture
def coco(tmp_path):
    return Data(tmp_path, 'coco')
