"""The message of a first command if the data is missing."""
import pytest
from conftest import REPO
from mmengine.config import Config

from mmdet_scconv.datasets.missing import missing_files, what_to_do

CONFIGS = REPO / 'configs'
COCO = 'scconv/faster-rcnn_scconv-r50_fpn_1x_coco.py'
VOC = 'scconv/faster-rcnn_scconv-r50_fpn_1x_voc0712.py'


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def missing(config, *splits):
    return missing_files(Config.fromfile(CONFIGS / config), splits)


@pytest.mark.parametrize('config,expected,command', [
    (COCO, 'data/coco', 'tools/misc/prepare_data.py coco'),
    (VOC, 'data/VOCdevkit', 'tools/misc/prepare_data.py voc'),
    ('demo/faster-rcnn_scconv-r18_fpn_9e_digits.py', 'data/digits',
     'make_digits.py'),
    ('demo/scconv-r18_10e_digits-classification.py', 'data/digit_folders',
     'make_digit_folders.py'),
    ('custom/faster-rcnn_scconv-r18_fpn_12e_coco-format.py', 'data/my_coco',
     'data_root'),
    ('imagenet/scconv-r50_100e_imagenet.py', 'data/imagenet', 'data_root'),
])
def test_all_is_missing(home, config, expected, command):
    found = missing(config, 'train', 'val')
    assert found == [expected]
    assert command in what_to_do(found)


@pytest.mark.parametrize('config,there,splits,expected', [
    (COCO, ['coco/annotations'], ('train', 'val'), [
        'data/coco/annotations/instances_train2017.json',
        'data/coco/annotations/instances_val2017.json',
        'data/coco/train2017', 'data/coco/val2017']),
    (COCO, ['coco/annotations/instances_val2017.json'], ('test', ),
     ['data/coco/val2017']),
    (VOC, ['VOCdevkit/VOC2007/JPEGImages', 'VOCdevkit/VOC2007/Annotations'],
     ('train', ), ['data/VOCdevkit/VOC2007/ImageSets/Main/trainval.txt',
                   'data/VOCdevkit/VOC2012']),
    (VOC, ['VOCdevkit/VOC2007/ImageSets/Main/test.txt',
           'VOCdevkit/VOC2007/Annotations'], ('val', ),
     ['data/VOCdevkit/VOC2007/JPEGImages']),
])
def test_a_part_is_missing(home, config, there, splits, expected):
    for name in there:
        (home / 'data' / name).mkdir(parents=True)
    assert missing(config, *splits) == expected


def test_all_is_there(data_home, monkeypatch):
    monkeypatch.chdir(data_home)
    for config in (COCO, VOC):
        assert missing(config, 'train', 'val', 'test') == []


def test_only_local_files_are_looked_for(home):
    cfg = Config(dict(
        train_dataloader=dict(dataset=dict(
            type='CocoDataset', data_root='s3://bucket/', ann_file='a.json')),
        val_dataloader=dict(dataset=dict(
            type='CocoDataset', data_root='x/', ann_file='a.json',
            backend_args=dict(backend='petrel'))),
        test_dataloader=None,
        test_evaluator=dict(type='CocoMetric', ann_file='http://a/b.json')))
    assert missing_files(cfg, ('train', 'val', 'test')) == []
