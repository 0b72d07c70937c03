"""Every classifier's config builds; one of each data set trains."""
import copy
import functools

import cv2
import numpy as np
import pytest
import torch
from cifar_files import write_cifar
from conftest import REPO
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner

from mmdet_scconv.classification import make_digit_folders
from mmdet_scconv.paper.complexity import count
from mmdet_scconv.paper.rows import TABLES

DEMO = 'configs/demo/scconv-r18_10e_digits-classification.py'
CASES = [(table.config.format(slug=row.slug), row, table)
         for name, table in TABLES.items() for row in table.rows
         if name in ('units', 'cifar10', 'cifar100', 'imagenet',
                     'cifar-folders')]


@functools.cache
def parsed(path):
    return Config.fromfile(REPO / path)


def load(path):
    return copy.deepcopy(parsed(path))


def name_of(value):
    return value if isinstance(value, str) else ''


# Table 2's backbones on CIFAR-100 are those on CIFAR-10
@pytest.mark.parametrize('path,row,table', [
    pytest.param(
        *case,
        marks=pytest.mark.slow if case[2] is TABLES['cifar100'] else ())
    for case in CASES
], ids=name_of)
def test_config_is_its_row(path, row, table):
    """Its backbone, nothing frozen, an output for each class; it runs."""
    cfg = load(path).model
    assert {
        key: cfg.backbone.get(key)
        for key in ('type', 'depth', 'conv2_cfg', 'stages_with_swap')
    } == {'conv2_cfg': None, 'stages_with_swap': None, **row.backbone}
    with torch.device('meta'):
        model = MODELS.build(cfg)
    assert count(model, table.shape, mmengine=False, device='meta').macs
    assert model.fc.out_features == dict(
        imagenet=1000, cifar100=100).get(path.split('_')[-1][:-3], 10)
    model.train()
    assert all(m.training for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize('folder,end', [
    ('imagenet', '_imagenet.py'),
    ('cifar', '_cifar10.py'),
    ('cifar', '_cifar100.py'),
    ('cifar_folders', '_cifar10-folders.py'),
])
def test_configs_differ_in_the_backbone_alone(folder, end):
    paths = list((REPO / 'configs' / folder).glob(f'*{end}'))
    assert {str(path.relative_to(REPO)) for path in paths} == {
        path for path, _, _ in CASES if path.endswith(end)
    }
    cfgs = [load(str(path.relative_to(REPO))).to_dict() for path in paths]
    for cfg in cfgs:
        cfg['model'].pop('backbone')
        assert cfg == cfgs[0]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """``data/`` with a few images of each data set, in its true layout."""
    data = tmp_path_factory.mktemp('home') / 'data'
    write_cifar(data / 'cifar')
    make_digit_folders(str(data / 'digit_folders'))
    image = np.random.default_rng(0).integers(
        0, 255, (40, 60, 3), dtype=np.uint8)
    content = cv2.imencode('.jpg', image)[1].tobytes()
    for split in ('train', 'test'):
        for i in range(10):
            folder = data / 'cifar10_folders' / split / str(i)
            folder.mkdir(parents=True)
            (folder / '0.jpg').write_bytes(
                cv2.imencode('.jpg', image[:32, :32])[1].tobytes())
    for split in ('train', 'val'):
        for i in range(1000):
            folder = data / 'imagenet' / split / f'n{i:08d}'
            folder.mkdir(parents=True)
            (folder / f'{split}_{i}.JPEG').write_bytes(content)
    return data


@pytest.mark.parametrize('path', [
    DEMO,
    'configs/cifar/scconv-r56_200e_cifar10.py',
    'configs/imagenet/scconv-r50_100e_imagenet.py',
    'configs/cifar_folders/scconv-r20_10e_cifar10-folders.py',
    *(pytest.param(path, marks=pytest.mark.slow)
      for path in dict.fromkeys(path for path, _, _ in CASES)),
])
def test_config_runs(path, data, tmp_path, monkeypatch):
    """Two training steps, validation and test, on four images."""
    (tmp_path / 'data').symlink_to(data)
    monkeypatch.chdir(tmp_path)
    cfg = load(path)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[name].num_workers = 0
        cfg[name].persistent_workers = False
        cfg[name].batch_size = 2
        cfg[name].dataset.indices = 4
    for step in cfg.train_dataloader.dataset.pipeline:
        if step.get('size') == 224:  # ImageNet's, for speed
            step.size = 64
    cfg.train_cfg.max_epochs = 1
    cfg.train_cfg.val_interval = 1
    cfg.work_dir = 'work_dir'
    cfg.log_level = 'WARNING'
    runner = Runner.from_cfg(cfg)
    runner.train()
    losses = runner.message_hub.get_scalar('train/loss')._log_history
    assert len(losses) == 2 and all(0 < loss < 1e3 for loss in losses)
    metrics = runner.test()
    assert 0 <= metrics['accuracy/top1'] <= 1
    assert ('accuracy/top5' in metrics) == (path != DEMO)
    assert (tmp_path / 'work_dir/epoch_1.pth').is_file()
