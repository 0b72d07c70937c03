import json
from pathlib import Path

import numpy as np
import pytest
from mmdet.datasets import CocoDataset, XMLDataset

from mmdet_scconv.datasets import make_digits
from mmdet_scconv.datasets.digits import CLASSES, split_samples


def contents(root):
    return {
        path.relative_to(root): path.read_bytes()
        for path in Path(root).rglob('*') if path.is_file()
    }


def test_deterministic_by_seed(tmp_path):
    options = dict(num_train=3, num_val=2, size=96)
    for name, seed in (('a', 1), ('b', 1), ('c', 2)):
        make_digits(str(tmp_path / name), seed=seed, **options)
    assert contents(tmp_path / 'a') == contents(tmp_path / 'b')
    assert contents(tmp_path / 'a') != contents(tmp_path / 'c')


def test_splits_are_disjoint():
    samples = split_samples(seed=0)
    glyphs = {
        split: {glyph.tobytes() for glyph in glyphs}
        for split, (glyphs, _) in samples.items()
    }
    assert sum(len(labels) for _, labels in samples.values()) == 1797
    assert not glyphs['train'] & glyphs['val']
    for _, labels in samples.values():
        assert set(labels) == set(range(10))


def test_both_formats_have_the_same_boxes(tmp_path):
    root = str(tmp_path / 'digits')
    make_digits(root, num_train=4, num_val=3, size=96)
    for split, count in (('train', 4), ('val', 3)):
        common = dict(
            data_root=root, metainfo=dict(classes=CLASSES), test_mode=True)
        coco = CocoDataset(
            ann_file=f'annotations/instances_{split}.json',
            data_prefix=dict(img='JPEGImages/'),
            **common)
        voc = XMLDataset(
            ann_file=f'ImageSets/Main/{split}.txt',
            data_prefix=dict(sub_data_root=''),
            **common)
        assert len(coco) == len(voc) == count
        for i in range(count):
            a, b = coco.get_data_info(i), voc.get_data_info(i)
            assert Path(a['img_path']) == Path(b['img_path'])
            assert [x['bbox_label'] for x in a['instances']
                    ] == [x['bbox_label'] for x in b['instances']]
            # MMDetection reads VOC's inclusive xmax as x2 - 1
            np.testing.assert_array_equal(
                np.array([x['bbox'] for x in a['instances']]) - [0, 0, 1, 1],
                np.array([x['bbox'] for x in b['instances']]))


def test_boxes_lie_in_the_image_and_apart(tmp_path):
    root = tmp_path / 'digits'
    make_digits(str(root), num_train=20, num_val=1, size=96)
    annotations = json.loads(
        (root / 'annotations/instances_train.json').read_text())['annotations']
    covered = np.zeros((20, 96, 96), int)
    for annotation in annotations:
        x, y, w, h = annotation['bbox']
        assert x >= 0 and y >= 0 and x + w <= 96 and y + h <= 96
        covered[annotation['image_id'], y:y + h, x:x + w] += 1
    assert covered.max() == 1
    assert covered.any((1, 2)).all(), 'an image without digits'


@pytest.mark.parametrize('name,value', [('num_train', 0), ('num_val', -1),
                                        ('size', 20), ('seed', -1)])
def test_invalid_options(tmp_path, name, value):
    with pytest.raises(ValueError, match=f'{name}={value} is not valid'):
        make_digits(str(tmp_path / 'digits'), **{name: value})
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_not_touched(tmp_path):
    (tmp_path / 'file').write_text('mine')
    with pytest.raises(FileExistsError, match='exists'):
        make_digits(str(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ['file']
