import cv2
import numpy as np
import pytest
from conftest import REPO, call_tool

from mmdet_scconv.classification import ImageFolder, make_digit_folders
from mmdet_scconv.datasets.digits import CLASSES, split_samples


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('digits') / 'digit_folders'
    assert make_digit_folders(str(root), size=8) == dict(train=1352, val=445)
    return root


@pytest.mark.parametrize('split', ['train', 'val'])
def test_images_are_the_samples_of_the_detection_set(root, split):
    dataset = ImageFolder(
        data_root=str(root / split), metainfo=dict(classes=CLASSES))
    found = {
        (cv2.imread(entry['img_path'], 0).tobytes(), entry['gt_label'])
        for entry in dataset
    }
    glyphs, labels = split_samples(0)[split]
    assert len(dataset) == len(glyphs)
    assert found == {
        ((255 * glyph).astype(np.uint8).tobytes(), label)
        for glyph, label in zip(glyphs, labels)
    }


@pytest.mark.parametrize('options,message', [
    (dict(size=7), 'size=7'),
    (dict(seed=-1), 'seed=-1'),
])
def test_invalid_options(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make_digit_folders(str(tmp_path / 'new'), **options)


def test_an_existing_folder_is_left_alone(tmp_path):
    with pytest.raises(FileExistsError, match='delete it'):
        make_digit_folders(str(tmp_path))


def test_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, output = call_tool(
        REPO / 'tools/dataset_converters/make_digit_folders.py', 'new',
        '--size', '16')
    assert 'new: 1352 training and 445 validation images' in output
    image = next((tmp_path / 'new/val/nine').glob('*.png'))
    assert cv2.imread(str(image)).shape == (16, 16, 3)
