import os
import pickle

import numpy as np
import pytest
from cifar_files import (
    array,
    dictionary,
    labels,
    random_images,
    string,
    write_cifar,
)

from mmdet_scconv.classification import CIFAR10, CIFAR100
from mmdet_scconv.classification.cifar import read_batch


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('cifar')
    write_cifar(root)
    return root


def test_cifar10(root):
    train = CIFAR10(data_root=str(root))
    assert [entry['gt_label'] for entry in train] == [
        (i + j) % 10 for i in range(5) for j in range(4)
    ]
    test = CIFAR10(split='test', data_root=str(root), test_mode=True)
    expected = random_images(4, 5)
    for entry, row in zip(test, expected):
        assert entry['img'].shape == (32, 32, 3)
        red, green, blue = row.reshape(3, 32, 32)
        assert np.array_equal(entry['img'], np.dstack([blue, green, red]))
    assert len(test.metainfo['classes']) == 10


def test_cifar100_has_fine_labels(root):
    dataset = CIFAR100(split='test', data_root=str(root))
    assert [entry['gt_label'] for entry in dataset] == [0, 25, 50, 75]


@pytest.mark.parametrize('key', ['data', b'data'])
def test_files_of_python_3(tmp_path, key):
    """As users write their own data sets in this layout."""
    images = random_images(3)
    path = tmp_path / 'batch'
    path.write_bytes(
        pickle.dumps({key: images.copy(), 'labels': [0, 1, 2]}, protocol=2))
    found, found_labels = read_batch(str(path), 'labels')
    assert found_labels == [0, 1, 2]
    assert np.array_equal(found[..., 2].reshape(3, -1), images[:, :1024])


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize('protocol', [0, 2, 4])
@pytest.mark.parametrize('function,args', [
    (os.system, ('touch {}', )),
    (exec, ("open('{}', 'w')", )),
    (np.save, ('{}', [1])),
    (getattr, (CIFAR10, 'files')),
])
def test_code_in_a_file_is_not_run(tmp_path, function, args, protocol):
    marker = tmp_path / 'marker.npy'
    args = [a.format(marker) if isinstance(a, str) else a for a in args]
    path = tmp_path / 'batch'
    path.write_bytes(
        pickle.dumps(
            dict(data=Call(function, *args), labels=[0]), protocol))
    with pytest.raises(ValueError, match='is not part of a CIFAR file'):
        read_batch(str(path), 'labels')
    assert not marker.exists()


IMAGES = random_images(2)
GOOD = dictionary(data=array(IMAGES), labels=labels([0, 1]))


@pytest.mark.parametrize('content', [
    b'',
    b'not a pickle',
    GOOD[:-1000],
    GOOD[:40],
    pickle.dumps([1, 2]),
    dictionary(labels=labels([0, 1])),
    dictionary(data=array(IMAGES)),
    dictionary(data=string(b'text'), labels=labels([0, 1])),
    dictionary(data=array(IMAGES), labels=labels([0])),
    dictionary(data=array(IMAGES), labels=labels([0, -1])),
    dictionary(data=array(IMAGES), labels=b'](' + string(b'0') * 2 + b'e'),
    dictionary(data=array(IMAGES, shape=(4, 3072)), labels=labels([0, 1])),
    dictionary(data=array(IMAGES, shape=(-2, -3072)), labels=labels([0, 1])),
    dictionary(data=array(IMAGES[:, :100]), labels=labels([0, 1])),
    dictionary(data=array(IMAGES, dtype=b'O8'), labels=labels([0, 1])),
], ids=range(15))
def test_damaged_files(tmp_path, content):
    path = tmp_path / 'batch'
    path.write_bytes(GOOD)
    assert read_batch(str(path), 'labels')[1] == [0, 1]
    path.write_bytes(content)
    with pytest.raises(ValueError, match='batch is not a file of CIFAR'):
        read_batch(str(path), 'labels')


def test_label_beyond_the_classes(tmp_path):
    write_cifar(tmp_path)
    (tmp_path / 'cifar-10-batches-py/test_batch').write_bytes(
        dictionary(data=array(IMAGES), labels=labels([0, 10])))
    with pytest.raises(ValueError, match='label 10, there are 10 classes'):
        CIFAR10(split='test', data_root=str(tmp_path))


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='unpack the "python version"'):
        CIFAR100(data_root=str(tmp_path))


def test_unknown_split(root):
    with pytest.raises(ValueError, match=r"split='val' .* \('train', 'test'"):
        CIFAR10(split='val', data_root=str(root))
