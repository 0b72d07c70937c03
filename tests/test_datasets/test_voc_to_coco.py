import json

import pytest
from conftest import write_voc
from pycocotools.coco import COCO

from mmdet_scconv.datasets import voc_to_coco
from mmdet_scconv.datasets.findings import DataError


def convert(data_home, tmp_path, image_sets, **options):
    out = tmp_path / 'new' / 'out.json'
    counts = voc_to_coco(
        str(data_home / 'data' / 'VOCdevkit'), image_sets, str(out), **options)
    return counts, out


def test_several_image_sets(data_home, tmp_path):
    counts, out = convert(data_home, tmp_path, [
        'VOC2007/ImageSets/Main/trainval.txt',
        'VOC2012/ImageSets/Main/trainval.txt'
    ])
    assert counts == dict(
        images=4, boxes=12, difficult=4, unusable=0, other_classes=0)
    coco = COCO(str(out))
    assert [i['file_name'] for i in coco.imgs.values()] == [
        'VOC2007/JPEGImages/000001.jpg', 'VOC2007/JPEGImages/000002.jpg',
        'VOC2012/JPEGImages/2008_000001.jpg',
        'VOC2012/JPEGImages/2008_000002.jpg'
    ]
    assert len(coco.cats) == 20
    first, _, difficult = coco.loadAnns(coco.getAnnIds(imgIds=1))
    # 1-based and read as MMDetection does: 5, 10, 40, 50 in the XML file
    assert first['bbox'] == [4, 9, 35, 40]
    assert (first['iscrowd'], difficult['iscrowd']) == (0, 1)


def test_classes(data_home, tmp_path):
    image_sets = ['VOC2007/ImageSets/Main/test.txt']
    counts, out = convert(
        data_home, tmp_path, image_sets, classes=['bicycle'])
    assert (counts['boxes'], counts['other_classes']) == (2, 4)
    assert json.loads(out.read_text())['categories'] == [
        dict(id=1, name='bicycle')
    ]


def test_unknown_classes(data_home, tmp_path):
    with pytest.raises(ValueError, match="'bike'.*'aeroplane': 4"):
        convert(data_home, tmp_path, ['VOC2007/ImageSets/Main/test.txt'],
                classes=['bike'])
    assert not list(tmp_path.iterdir())


def test_boxes_without_area(data_home, tmp_path):
    root = tmp_path / 'VOC2007'
    (root / 'Annotations').mkdir(parents=True)
    (root / 'ImageSets' / 'Main').mkdir(parents=True)
    (root / 'ImageSets' / 'Main' / 'test.txt').write_text('000001\n')
    source = data_home / 'data/VOCdevkit/VOC2007/Annotations/000001.xml'
    (root / 'Annotations' / '000001.xml').write_text(
        source.read_text().replace('<xmax>40</xmax>', '<xmax>5</xmax>'))
    counts = voc_to_coco(
        str(tmp_path), ['VOC2007/ImageSets/Main/test.txt'],
        str(tmp_path / 'out.json'))
    assert (counts['boxes'], counts['unusable']) == (2, 1)


def test_missing_image_set(data_home, tmp_path):
    with pytest.raises(FileNotFoundError, match='nothing.txt'):
        convert(data_home, tmp_path, ['VOC2007/ImageSets/Main/nothing.txt'])


def test_damaged_annotation_is_named(tmp_path):
    write_voc(tmp_path / 'mine', ('cat', ), dict(train=['a', 'b']))
    (tmp_path / 'mine/Annotations/b.xml').write_text('<annotation>')
    with pytest.raises(DataError, match='b.xml: is not valid XML'):
        voc_to_coco(str(tmp_path), ['mine/ImageSets/Main/train.txt'],
                    str(tmp_path / 'out.json'))
