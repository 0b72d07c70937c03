"""CIFAR's files as their makers wrote them: pickles of Python 2."""
import struct

import numpy as np


def number(value):
    return b'J' + struct.pack('<i', value)


def string(content):
    return b'T' + struct.pack('<i', len(content)) + content


def array(images, dtype=b'u1', shape=None):
    shape = shape or images.shape
    empty = (b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n' +
             number(0) + b'\x85' + string(b'b') + b'\x87R')
    kind = (b'cnumpy\ndtype\n' + string(dtype) + number(0) + number(1) +
            b'\x87R(' + number(3) + string(b'|') + b'NNN' + number(-1) +
            number(-1) + number(0) + b'tb')
    return (empty + b'(' + number(1) + b'(' +
            b''.join(number(size) for size in shape) + b't' + kind + b'\x89' +
            string(images.tobytes()) + b'tb')


def dictionary(**items):
    return b'\x80\x02}(' + b''.join(
        string(key.encode()) + value for key, value in items.items()) + b'u.'


def labels(values):
    return b'](' + b''.join(number(value) for value in values) + b'e'


def random_images(count, seed=0):
    """(count, 3072) uint8, rows of red, then green, then blue."""
    return np.random.default_rng(seed).integers(
        0, 256, (count, 3072), dtype=np.uint8)


def write_cifar(root, count=4):
    """Both data sets with few images in each file."""
    ten, hundred = root / 'cifar-10-batches-py', root / 'cifar-100-python'
    ten.mkdir(parents=True)
    hundred.mkdir()
    names = [f'data_batch_{i}' for i in range(1, 6)] + ['test_batch']
    for i, name in enumerate(names):
        (ten / name).write_bytes(
            dictionary(
                batch_label=string(b'a batch'),
                data=array(random_images(count, i)),
                labels=labels([(i + j) % 10 for j in range(count)])))
    for name in ('train', 'test'):
        (hundred / name).write_bytes(
            dictionary(
                data=array(random_images(count)),
                fine_labels=labels([25 * j for j in range(count)]),
                coarse_labels=labels([j for j in range(count)])))
