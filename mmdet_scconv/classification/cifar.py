"""CIFAR-10 and CIFAR-100 in the layout of their python archives.

    data_root/cifar-10-batches-py/{data_batch_1..5,test_batch}
    data_root/cifar-100-python/{train,test}

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images",
2009; https://www.cs.toronto.edu/~kriz/cifar.html. The files are pickles of
Python 2, which could run any code; :func:`read_batch` runs none of it.
"""
import io
import math
import os.path as osp
import pickle  # noqa: S403 (an Unpickler that knows no callable of others)

import numpy as np
from mmdet.registry import DATASETS
from mmengine.dataset import BaseDataset

SIDE = 32
ARRAY_MODULES = ('numpy.core.multiarray', 'numpy._core.multiarray')


class UInt8:
    """Stands for ``numpy.dtype``; the one type that images have."""

    def __init__(self, name: str | bytes, *args) -> None:
        if name not in ('u1', b'u1'):
            raise pickle.UnpicklingError(f'dtype {name!r}, expected u1')

    def __setstate__(self, state: tuple) -> None:
        """Byte order and the like, of which uint8 has none."""


class Array:
    """Stands for ``numpy.ndarray``; ``value`` is the real one."""

    def __init__(self, *args) -> None:
        """Called with the empty array that numpy starts from."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran_order, content = state
        if isinstance(content, str):  # a byte string of Python 2
            content = content.encode('latin1')
        if (not isinstance(dtype, UInt8) or fortran_order
                or math.prod(shape) != len(content)):
            raise pickle.UnpicklingError('not a whole array of uint8')
        self.value = np.frombuffer(content, np.uint8).reshape(shape)


def to_bytes(text: str, codec: str) -> bytes:
    """What Python 3 writes for bytes at protocol 2."""
    if codec != 'latin1':
        raise pickle.UnpicklingError(f'codec {codec!r}, expected latin1')
    return text.encode('latin1')


class BatchUnpickler(pickle.Unpickler):
    """Reads dicts, lists, numbers, strings and arrays of uint8, and calls
    nothing but the stand-ins above."""

    def find_class(self, module: str, name: str):
        known = {
            ('numpy', 'ndarray'): Array,
            ('numpy', 'dtype'): UInt8,
            ('_codecs', 'encode'): to_bytes,
            **{(m, '_reconstruct'): Array for m in ARRAY_MODULES}
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(
                f'{module}.{name} is not part of a CIFAR file')
        return known[module, name]


def read_batch(path: str, label_key: str) -> tuple[np.ndarray, list[int]]:
    """Read one file of CIFAR.

    Args:
        path (str): The file.
        label_key (str): 'labels' (CIFAR-10), 'fine_labels' or
            'coarse_labels' (CIFAR-100).

    Returns:
        tuple: Images (n, 32, 32, 3) uint8 with channels BGR, and n labels.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a file of CIFAR, is damaged, or holds anything
            else; that is not run.
    """
    try:
        with open(path, 'rb') as f:
            content = f.read()
    except FileNotFoundError:
        raise FileNotFoundError(
            f'{path}: no such file; unpack the "python version" of '
            'https://www.cs.toronto.edu/~kriz/cifar.html there') from None
    try:
        batch = BatchUnpickler(io.BytesIO(content), encoding='latin1').load()
        # Python 3 keeps the kind of string that the keys had
        batch = {k.decode() if isinstance(k, bytes) else k: v
                 for k, v in batch.items()}
        pixels, labels = batch['data'].value, batch[label_key]
        if pixels.shape != (len(labels), 3 * SIDE**2):
            raise ValueError(f'{len(labels)} labels, images of shape '
                             f'{pixels.shape}')
        if not all(type(label) is int and label >= 0 for label in labels):
            raise ValueError('labels that are not numbers')
    except Exception as error:  # a damaged pickle raises anything
        raise ValueError(f'{path} is not a file of CIFAR, or damaged: '
                         f'{type(error).__name__}: {error}') from error
    images = pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)[..., ::-1]
    return np.ascontiguousarray(images), labels


class CIFAR(BaseDataset):
    """The common base of both data sets; an entry has ``img`` and
    ``gt_label``.

    Args:
        split (str): 'train' or 'test'. Defaults to 'train'.
        **kwargs: Of ``mmengine.dataset.BaseDataset``: ``data_root``,
            ``pipeline``, ``test_mode``, ...

    Raises:
        ValueError: For another split, or a damaged file.
        FileNotFoundError: If a file is missing.
    """

    folder: str
    files: dict[str, tuple[str, ...]]
    label_key: str
    num_classes: int

    def __init__(self, split: str = 'train', **kwargs) -> None:
        if split not in self.files:
            raise ValueError(f'split={split!r} is not valid: one of '
                             f'{tuple(self.files)}')
        self.split = split
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        data_list = []
        for name in self.files[self.split]:
            path = osp.join(self.data_root, self.folder, name)
            images, labels = read_batch(path, self.label_key)
            if max(labels, default=0) >= self.num_classes:
                raise ValueError(f'{path}: label {max(labels)}, there are '
                                 f'{self.num_classes} classes')
            data_list += [
                dict(
                    img=image,
                    img_shape=image.shape[:2],
                    ori_shape=image.shape[:2],
                    gt_label=label) for image, label in zip(images, labels)
            ]
        return data_list


@DATASETS.register_module()
class CIFAR10(CIFAR):
    """10 classes, 50000 + 10000 images of 32x32 pixels. See :class:`CIFAR`.
    """

    folder = 'cifar-10-batches-py'
    files = dict(
        train=tuple(f'data_batch_{i}' for i in range(1, 6)),
        test=('test_batch', ))
    label_key = 'labels'
    num_classes = 10
    METAINFO = dict(
        classes=('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog',
                 'frog', 'horse', 'ship', 'truck'))


@DATASETS.register_module()
class CIFAR100(CIFAR):
    """100 fine classes, 50000 + 10000 images of 32x32 pixels. See
    :class:`CIFAR`."""

    folder = 'cifar-100-python'
    files = dict(train=('train', ), test=('test', ))
    label_key = 'fine_labels'
    num_classes = 100
