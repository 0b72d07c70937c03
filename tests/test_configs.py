"""Every config runs, outside the repository: a few in a fresh process, the
others in this one, where what a fresh one would import is checked."""
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mmdet
import pytest
import torch
from conftest import REPO, load_script
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from mmdet_scconv.paper.rows import TABLES

# of the rows only SCConv's R50 runs each time, on COCO and digits: all others
# differ in the backbone alone, as tests below say, or in the data, as those of
# one's own; RTMDet and YOLOX run each time on one's own data; classifiers:
# test_classification
SLOW = ('configs/ablation/', 'configs/scratch/', 'configs/rtmdet/',
        'configs/yolox/',
        'configs/scconv/faster-rcnn_r50_', 'configs/scconv/faster-rcnn_r101_',
        'configs/scconv/faster-rcnn_scconv-r101_',
        'configs/scconv/faster-rcnn_slimconv-',
        'configs/scconv/faster-rcnn_spconv-',
        'configs/scconv/faster-rcnn_scconv-r50_fpn_1x_voc',
        'configs/digits/faster-rcnn_r101_',
        'configs/digits/faster-rcnn_scconv-r101_',
        'configs/digits/faster-rcnn_slimconv-',
        'configs/digits/faster-rcnn_spconv-',
        'configs/digits/rtmdet_', 'configs/digits/yolox_')
# of one's own data, in a process of its own, where the weights are fitted, too
FRESH = ('configs/custom/faster-rcnn_scconv-r18_fpn_12e_voc-format.py', )
CLASSIFIERS = ('_digits-classification.py', '_imagenet.py', '_cifar10.py',
               '_cifar100.py', '_cifar10-folders.py')
CONFIGS = [
    pytest.param(path, marks=pytest.mark.slow if path.startswith(SLOW) else ())
    for path in sorted(
        str(path.relative_to(REPO))
        for path in (REPO / 'configs').rglob('*.py')
        if '_base_' not in path.parts and not path.name.endswith(CLASSIFIERS))
]
SCRIPT = REPO / 'tests' / 'run_config.py'


def load(path):
    return Config.fromfile(REPO / path).to_dict()


@pytest.fixture
def folder(tmp_path, data_home, torch_home, monkeypatch):
    shutil.copytree(data_home / 'data', tmp_path / 'data')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TORCH_HOME', str(torch_home))
    return tmp_path


def run_config(path, fresh):
    """The metrics of a tiny training and test; in a fresh process with the fit
    of swapped convolutions."""
    if not fresh:
        return load_script(SCRIPT).run(str(path), fit=False)
    done = subprocess.run([sys.executable, SCRIPT, path],
                          capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize('config', CONFIGS)
def test_config_runs(config, folder):
    metrics = run_config(REPO / config, fresh=config in FRESH)
    assert {'coco/bbox_mAP', 'coco/bbox_mAP_50',
            'coco/bbox_mAP_75'} <= set(metrics)
    assert ('pascal_voc/mAP' in metrics) == ('voc' in config)


@pytest.mark.parametrize('config', CONFIGS)
def test_config_imports_the_package_and_names_its_hook(config):
    """As a fresh process needs it, with any train.py."""
    cfg = Config.fromfile(REPO / config, import_custom_modules=False)
    assert cfg.custom_imports == dict(
        imports=['mmdet_scconv'], allow_failed_imports=False)
    assert 'SCConvRuntimeHook' in [hook.type for hook in cfg.custom_hooks]


def snippet_of_readme():
    """The config that the README shows for swapping a backbone."""
    text = (REPO / 'README.md').read_text()
    section = text.split('## Swap the backbone of your config')[1]
    return section.split('```python\n')[1].split('```')[0]


STOCK = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'


@pytest.mark.parametrize('config,fresh', [
    (STOCK, False),
    pytest.param(STOCK, True, marks=pytest.mark.slow),  # fits a ResNet-50
    ('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', False)
])
def test_stock_config_with_the_backbone_swapped(config, fresh, folder):
    """The example in the README."""
    path = folder / 'my_config.py'
    path.write_text(snippet_of_readme().replace(STOCK, config))
    assert config in path.read_text()
    assert 'coco/bbox_mAP' in run_config(path, fresh)


# of a training by MMDetection's own tools/train.py
QUICK = """
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=1)
val_cfg = val_dataloader = val_evaluator = None
train_dataloader = dict(num_workers=0, persistent_workers=False)
default_hooks = dict(checkpoint=dict(by_epoch=False))
log_processor = dict(by_epoch=False)
train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = (96, 64)
train_dataloader.update(dataset=dict(pipeline=train_pipeline))
"""


@pytest.mark.parametrize(
    'loaded', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_freezing_without_weights_in_mmdetections_train(
        loaded, data_home, torch_home, tmp_path):
    """The stock base freezes stage 1 and all BatchNorms: an error without a
    fit, unless a checkpoint with SCConv weights is loaded."""
    (tmp_path / 'data').symlink_to(data_home / 'data')
    text = snippet_of_readme().replace(
        "type='SCConvResNet'", "type='SCConvResNet', swapped_init='random'")
    text += QUICK
    if loaded:
        backbone = MODELS.build(dict(type='SCConvResNet', depth=50))
        torch.save({f'backbone.{key}': value
                    for key, value in backbone.state_dict().items()},
                   tmp_path / 'mine.pth')
        text += "load_from = 'mine.pth'\n"
    (tmp_path / 'my_config.py').write_text(text)
    done = subprocess.run([
        sys.executable,
        Path(mmdet.__file__).parent / '.mim/tools/train.py', 'my_config.py'
    ], cwd=tmp_path, env=dict(os.environ, TORCH_HOME=str(torch_home)),
                          capture_output=True, text=True)
    output = done.stdout + done.stderr
    assert 'SCConvResNet' in output
    assert ('FROZEN WITHOUT WEIGHTS' in output) == (not loaded)
    assert ('NORM_EVAL WITHOUT STATISTICS' in output) == (not loaded)
    assert (done.returncode == 0) == loaded, output[-4000:]
    assert (tmp_path / 'work_dirs/my_config/iter_1.pth').exists() == loaded


def test_conv_module_in_a_fresh_process(tmp_path):
    code = ('import mmdet_scconv, torch\n'
            'from mmcv.cnn import ConvModule\n'
            'm = ConvModule(64, 64, 3, padding=1, '
            "conv_cfg=dict(type='SCConv'), norm_cfg=dict(type='BN'))\n"
            'print(tuple(m(torch.rand(2, 64, 7, 7)).shape))')
    done = subprocess.run([sys.executable, '-c', code],
                          cwd=tmp_path,
                          capture_output=True,
                          text=True)
    assert done.stdout.endswith('(2, 64, 7, 7)\n'), done.stderr


@pytest.mark.parametrize('table', ['voc', 'coco'])
def test_rows_of_a_table_share_all_but_the_convolution(table):
    """Key by key: what is frozen, the mode of BatchNorm and the pretrained
    file of the depth are the dense row's."""
    rows = TABLES[table].rows
    configs = [load(TABLES[table].config.format(slug=r.slug)) for r in rows]
    dense = {cfg['model']['backbone']['depth']: cfg for cfg in configs
             if cfg['model']['backbone']['type'] == 'ResNet'}
    for row, cfg in zip(rows, configs):
        backbone = cfg['model']['backbone']
        assert {key: backbone.get(key)
                for key in ('type', 'depth', 'conv2_cfg')
                } == {'conv2_cfg': None, **row.backbone}
        backbone.pop('conv2_cfg', None)
        backbone['type'] = 'ResNet'
        assert cfg == dense[row.backbone['depth']]
        assert (backbone['frozen_stages'], backbone['norm_eval']) == (1, True)
    first, *others = dense.values()
    for other in others:  # depth and the file for it
        assert set(other['model']['backbone']) == set(
            first['model']['backbone'])
        other['model']['backbone'] = first['model']['backbone']
        assert other == first


@pytest.mark.parametrize('table', TABLES)
def test_every_row_has_a_config(table):
    if not TABLES[table].config:
        return  # counts alone
    for row in TABLES[table].rows:
        if row.slug:
            assert (REPO / TABLES[table].config.format(slug=row.slug)).exists()


@pytest.mark.parametrize('path', sorted((REPO / 'configs/ablation').glob('*')))
def test_ablations_differ_in_conv2_alone(path):
    cfg = load(path)
    backbone = dict(cfg['model']['backbone'], init_cfg=None)
    assert MODELS.build(backbone)(torch.randn(1, 3, 64, 64))
    assert cfg['model']['backbone'].pop('conv2_cfg')
    assert cfg == load(TABLES['voc'].config.format(slug='scconv-r50'))


def test_voc_trains_on_small_boxes():
    cfg = Config.fromfile(
        REPO / 'configs/scconv/faster-rcnn_r50_fpn_1x_voc0712.py')
    for dataset in cfg.train_dataloader.dataset.dataset.datasets:
        assert dataset.filter_cfg == dict(filter_empty_gt=True, min_size=32)


def test_from_scratch_nothing_is_frozen_or_loaded():
    cfg = load('configs/scratch/faster-rcnn_scconv-r50-scratch_fpn_6x_coco.py')
    backbone = MODELS.build(cfg['model']['backbone'])
    backbone.train()
    assert all(p.requires_grad for p in backbone.parameters())
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(m.training for m in norms)
    assert 'Pretrained' not in str(backbone.init_cfg)
    assert cfg['sync_bn'] == 'torch'
    assert cfg['train_cfg']['max_epochs'] == 73
    cfg['model']['backbone']['type'] = 'ResNet'
    assert cfg == load('configs/scratch/faster-rcnn_r50-scratch_fpn_6x_coco.py'
                       )


def test_swapped_rows_do_not_inherit_from_each_other():
    """SPConv's and SlimConv's from SCConv's, whose options they would get."""
    for path in (REPO / 'configs/scconv').glob('*conv*-r50_*.py'):
        base, = re.findall(r"^_base_ = '(.*)'$", path.read_text(), re.M)
        assert 'conv' not in Path(base).name
