"""Tiny data sets in the layouts that the configs name, and weights."""
import atexit
import functools
import gc
import importlib.util
import io
import json
import os
import runpy
import shutil
import socket
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import settings

# PyTorch and MMDetection are imported inside functions: the process of xdist
# that starts the workers, and waits for it, uses neither.

# Before the package looks for its kernel there: the tests neither use the
# user's cache nor write to it. xdist's workers inherit it.
if 'PYTEST_XDIST_WORKER' not in os.environ:
    CACHE = tempfile.mkdtemp(prefix='mmdet_scconv_tests_')
    os.environ['XDG_CACHE_HOME'] = CACHE
    atexit.register(shutil.rmtree, CACHE, ignore_errors=True)

REPO = Path(__file__).resolve().parent.parent
IMAGE_SIZE = (60, 80)  # height, width
BOXES = ((5, 10, 40, 50), (30, 5, 75, 45))  # x1, y1, x2, y2

# the same examples each time; --hypothesis-profile=slow draws others
settings.register_profile(
    'fast',
    max_examples=50,
    derandomize=True,
    deadline=None,
    database=None)
settings.register_profile('slow', max_examples=2000, deadline=None)
settings.load_profile('fast')


def load_script(path):
    """A tool as a module, e.g. to call its ``main`` in this process."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call_tool(path, *args):
    """Run a command line in this process, which has imported MMDetection
    already. The environment is afterwards as before.

    Returns:
        tuple: Exit code, and what was written to both streams.
    """
    output = io.StringIO()  # loggers keep the stream after this call
    code = None
    with same_environment(), pytest.MonkeyPatch.context() as patch, \
            redirect_stdout(output), redirect_stderr(output):
        patch.setattr(sys, 'argv', [str(path), *map(str, args)])
        try:
            runpy.run_path(str(path), run_name='__main__')
        except SystemExit as error:
            code = error.code
    if isinstance(code, str):  # Python prints a message, and ends with 1
        return 1, f'{output.getvalue()}{code}\n'
    return code or 0, output.getvalue()


def free_port():
    """For a group of processes; another one may run beside these tests."""
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return str(sock.getsockname()[1])


def write_images(folder, names, seed=0):
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for name in names:
        image = rng.integers(0, 255, (*IMAGE_SIZE, 3), dtype=np.uint8)
        for x1, y1, x2, y2 in BOXES:
            image[y1:y2, x1:x2] //= 2
        cv2.imwrite(str(folder / f'{name}.jpg'), image)


def write_voc(root, classes, image_sets):
    """A VOC folder; each image has a box of the first two classes, and a
    third one that is marked difficult."""
    names = [name for names in image_sets.values() for name in names]
    write_images(root / 'JPEGImages', names)
    (root / 'Annotations').mkdir()
    (root / 'ImageSets' / 'Main').mkdir(parents=True)
    for split, split_names in image_sets.items():
        (root / 'ImageSets' / 'Main' / f'{split}.txt').write_text(
            '\n'.join(split_names) + '\n')
    for name in names:
        node = ET.Element('annotation')
        size = ET.SubElement(node, 'size')
        ET.SubElement(size, 'width').text = str(IMAGE_SIZE[1])
        ET.SubElement(size, 'height').text = str(IMAGE_SIZE[0])
        for i, box in enumerate((*BOXES, (1, 1, 9, 9))):
            obj = ET.SubElement(node, 'object')
            ET.SubElement(obj, 'name').text = classes[i % 2 % len(classes)]
            ET.SubElement(obj, 'difficult').text = str(int(i == 2))
            bndbox = ET.SubElement(obj, 'bndbox')
            for key, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), box):
                ET.SubElement(bndbox, key).text = str(value)
        ET.ElementTree(node).write(root / 'Annotations' / f'{name}.xml')


def write_coco(root, classes, splits):
    """A COCO folder: ``splits`` maps an annotation file to an image folder."""
    for ann_file, folder in splits.items():
        names = [f'{folder.name}_{i}' for i in range(2)]
        if not (root / folder).exists():
            write_images(root / folder, names)
        images = [
            dict(
                id=i,
                file_name=f'{name}.jpg',
                height=IMAGE_SIZE[0],
                width=IMAGE_SIZE[1]) for i, name in enumerate(names)
        ]
        annotations = [
            dict(
                id=2 * i + j + 1,
                image_id=i,
                category_id=1 + j % len(classes),
                bbox=[x1, y1, x2 - x1, y2 - y1],
                area=(x2 - x1) * (y2 - y1),
                iscrowd=0) for i in range(len(names))
            for j, (x1, y1, x2, y2) in enumerate(BOXES)
        ]
        path = root / ann_file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps(
                dict(
                    images=images,
                    annotations=annotations,
                    categories=[
                        dict(id=i, name=name)
                        for i, name in enumerate(classes, start=1)
                    ])))


# variables that a command line sets in its process, as MMDetection's does, and
# MMEngine for the workers of loaders; here all tests share one process
SET_BY_TOOLS = {'LOCAL_RANK', 'OMP_NUM_THREADS', 'MKL_NUM_THREADS'}


@contextmanager
def same_environment():
    """Check that the block sets no other variables, and remove these."""
    before = dict(os.environ)
    yield
    after = dict(os.environ)
    os.environ.clear()
    os.environ.update(before)
    changed = {name for name in {*before, *after}
               if before.get(name) != after.get(name)
               and not name.startswith('PYTEST_')}
    assert changed <= SET_BY_TOOLS


@pytest.fixture(scope='session', autouse=True)
def modules_are_no_garbage():
    """Let Python's garbage collector pass over all that was imported, which it
    would look through each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope='session', autouse=True)
def index_is_read_once():
    """MMDetection's list of its configs: 100 files, which MMEngine reads for
    each ``mmdet::`` in a config."""
    from mmengine.config import utils
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, 'load', functools.cache(utils.load))
        yield


@pytest.fixture(scope='session', autouse=True)
def a_config_is_laid_out_once():
    """MMEngine has yapf do it six times in a run, for its log, its copies and
    its message hub: 0.2 s each."""
    from yapf.yapflib import yapf_api
    lay_out, done = yapf_api.FormatCode, {}

    def lay_out_once(text, **options):
        if text not in done:
            done[text] = lay_out(text, **options)
        return done[text]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yapf_api, 'FormatCode', lay_out_once)
        yield


@pytest.fixture(autouse=True)
def same_random_numbers():
    """In each test, whatever ran before."""
    import torch
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def environment_is_kept():
    with same_environment():
        yield
    # pytest removes it
    os.environ.setdefault('PYTEST_CURRENT_TEST', '')


@pytest.fixture(autouse=True)
def default_scope():
    """Restore the default scope, which a runner sets to its own."""
    from mmengine.registry import DefaultScope
    DefaultScope.get_instance(f'test{time.time_ns()}', scope_name='mmdet')


@pytest.fixture(autouse=True)
def no_runner_before():
    """A runner also leaves its visualizer and its messages behind: the next
    one would get those of the same name, and its hooks the visualizer whose
    name was new last."""
    from mmdet.visualization import DetLocalVisualizer
    from mmengine.logging import MessageHub
    from mmengine.visualization import Visualizer
    for cls in (Visualizer, DetLocalVisualizer, MessageHub):
        cls._instance_dict.clear()


@pytest.fixture(scope='session')
def data_home(tmp_path_factory):
    """A folder outside the repository whose ``data/`` holds two images of
    each data set that a config names."""
    from mmdet.datasets import CocoDataset, VOCDataset

    from mmdet_scconv.datasets import make_digits
    home = tmp_path_factory.mktemp('home')
    data = home / 'data'
    make_digits(str(data / 'digits'), num_train=8, num_val=2, size=96)
    voc = VOCDataset.METAINFO['classes']
    write_voc(data / 'VOCdevkit' / 'VOC2007', voc,
              dict(trainval=['000001', '000002'], test=['000003', '000004']))
    write_voc(data / 'VOCdevkit' / 'VOC2012', voc,
              dict(trainval=['2008_000001', '2008_000002']))
    write_voc(data / 'my_voc', ('object', ),
              dict(train=['a', 'b'], val=['c', 'd']))
    write_coco(
        data / 'coco', CocoDataset.METAINFO['classes'], {
            f'annotations/instances_{split}.json': Path(split)
            for split in ('train2017', 'val2017')
        })
    write_coco(
        data / 'my_coco', ('object', ), {
            f'annotations/{split}.json': Path('images')
            for split in ('train', 'val')
        })
    return home


@pytest.fixture(scope='session')
def torch_home():
    """A torch cache that holds the ImageNet checkpoints by name (random
    weights), as on a machine without network: written once for all workers
    of a session, as it takes 260 MB."""
    import torch
    from filelock import FileLock
    from mmdet.models.backbones import CSPNeXt, ResNet

    from mmdet_scconv.pretrained.download import cached_file
    home = Path(os.environ['XDG_CACHE_HOME'], 'torch_home')
    checkpoints = home / 'hub' / 'checkpoints'
    with FileLock(f'{home}.lock'):
        if checkpoints.exists():
            return home
        checkpoints.mkdir(parents=True)
        for depth, name in ((50, 'resnet50-0676ba61.pth'),
                            (101, 'resnet101-63fe2227.pth')):
            torch.save(ResNet(depth).state_dict(), checkpoints / name)
            downloaded = cached_file(
                f'https://download.pytorch.org/models/{name}')
            (checkpoints / Path(downloaded).name).hardlink_to(
                checkpoints / name)
        # RTMDet-tiny's, as MMDetection's config names it
        cspnext = CSPNeXt(
            deepen_factor=0.167, widen_factor=0.375).state_dict()
        downloaded = cached_file(
            'https://mmassets.onedl.ai/mmdetection/v3.0/rtmdet/'
            'cspnext_rsb_pretrain/cspnext-tiny_imagenet_600e.pth')
        torch.save(
            {f'backbone.{key}': value
             for key, value in cspnext.items()},
            checkpoints / Path(downloaded).name)
    return home


@pytest.fixture
def without_home(monkeypatch):
    """A user id that the system does not know, as in some containers."""
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.delenv('HOME')
    monkeypatch.setattr('pwd.getpwuid', dict().__getitem__)


@pytest.fixture(scope='session')
def kernel_cache():
    """An ``XDG_CACHE_HOME`` that holds the kernels for CPUs: built once
    for all workers of a session."""
    from mmdet_scconv.layers.kernels import cpu
    cache = os.path.join(os.environ['XDG_CACHE_HOME'], 'with_kernel')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', cache)
        cpu.build()
    return cache
