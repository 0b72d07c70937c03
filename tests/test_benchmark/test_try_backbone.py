"""Stock detectors with our backbones; how their failures are told apart."""
import csv

import pytest
import torch
from conftest import REPO, call_tool
from mmengine.config import Config

from mmdet_scconv.benchmark import stock_configs
from mmdet_scconv.benchmark.stock_configs import (
    backbones_in,
    load_config,
    other_backbones,
    representatives,
    swapped,
)
from mmdet_scconv.benchmark.trial_table import COLUMNS, write_markdown
from mmdet_scconv.benchmark.try_backbone import (
    Attempt,
    attempt,
    attempt_apart,
)
from mmdet_scconv.benchmark.verdict import Trial, try_config

RETINANET = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
FAILED = Attempt(failed='train', error='ValueError: a')


SLOW = [
    'atss/atss_r50_fpn_1x_coco.py',
    'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py',
    'centernet/centernet_r18_8xb16-crop512-140e_coco.py',
    'deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
    'gfl/gfl_r50_fpn_1x_coco.py',
    'htc/htc_r50_fpn_1x_coco.py',
    'mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
    'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'solo/decoupled-solo-light_r50_fpn_3x_coco.py',
    'soft_teacher/'
    'soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py',
    'sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py',
    'tood/tood_r50_fpn_1x_coco.py',
]


@pytest.mark.parametrize('config', [
    'detr/detr_r18_8xb2-500e_coco.py',
    'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    'retinanet/retinanet_r18_fpn_1x_coco.py',
    'yolof/yolof_r50-c5_8xb8-1x_coco.py',
    *(pytest.param(config, marks=pytest.mark.slow) for config in SLOW),
])
def test_detectors(config):
    works(config, 'SCConvResNet', 64)


def works(config, backbone, size):
    done = attempt(f'mmdet::{config}', 'SCConvResNet', size)
    assert (done.failed, done.error, done.backbone) == ('', '', backbone)
    assert done.loss > 0


@pytest.mark.slow
def test_a_resnext():
    works('retinanet/retinanet_x101-32x4d_fpn_1x_coco.py', 'SCConvResNeXt',
          64)


@pytest.mark.slow
@pytest.mark.parametrize('config', [
    'dcn/mask-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py',  # deformable 3x3 of C5
    'ddod/ddod_r50_fpn_1x_coco.py',  # deformable 3x3 of P7
    'dino/dino-4scale_r50_8xb2-12e_coco.py',  # takes its 900 best points
])
def test_detectors_that_need_more_pixels(config):
    works(config, 'SCConvResNet', 384)


def test_deformable_stages_stay():
    cfg = load_config('mmdet::dcn/mask-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py')
    new = swapped(cfg.model.backbone, 'SCConvResNet')
    assert new['stages_with_swap'] == (True, False, False, False)


def test_load_config():
    """MMEngine's own look-up does not take the plus sign."""
    cfg = load_config('mmdet::gn+ws/mask-rcnn_r50_fpn_gn-ws-all_2x_coco.py')
    assert cfg.model.type == 'MaskRCNN'
    with pytest.raises(FileNotFoundError):
        load_config('mmdet::gn/nothing.py')


def test_swapped():
    old = dict(type='ResNeXt', depth=50, groups=32, frozen_stages=1)
    assert swapped(old, 'SCConvResNet') == dict(
        type='SCConvResNeXt', depth=50, groups=32, frozen_stages=-1,
        norm_eval=False)
    new = swapped(dict(type='ResNetV1d', depth=50), 'SPConvResNet')
    assert new['type'] == 'SPConvResNet'
    assert new['deep_stem'] and new['avg_down']
    new = swapped(dict(type='ResNet', norm_cfg=dict(type='BN', eps=0)),
                  'SCConvResNet')
    assert new['norm_cfg'] == dict(type='BN')  # trains with no other
    with pytest.raises(ValueError, match="'SPConvResNeXt' for a ResNeXt does"):
        swapped(old, 'SPConvResNet')


@pytest.mark.parametrize('backbone,module', [
    (dict(type='CSPNeXt', widen_factor=0.25), dict(
        type='CSPNeXt', widen_factor=0.25, frozen_stages=-1,
        norm_eval=False)),
    # hands frozen_stages on to ResNet
    (dict(type='Res2Net', depth=50, frozen_stages=1), dict(
        type='Res2Net', depth=50, frozen_stages=-1, norm_eval=False)),
    (dict(type='EfficientNet', arch='b3', frozen_stages=2), dict(
        type='EfficientNet', arch='b3', frozen_stages=0, norm_eval=False)),
    # has a base with these options, and does not hand them on
    (dict(type='SSDVGG', depth=16), dict(type='SSDVGG', depth=16)),
])
def test_any_backbone(backbone, module):
    """Nothing is frozen, where there is such an option."""
    assert swapped(backbone, 'Swapped') == dict(
        type='Swapped', module=module, conv=dict(type='SCConv'))


@pytest.mark.parametrize('config,said', [
    ('rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
     'Swapped CSPNeXt, 4 of 37 convolutions (dense: 2.35 M)'),
    ('regnet/retinanet_regnetx-800MF_fpn_1x_coco.py',
     'Swapped RegNet, none of 53 convolutions (dense: 6.59 M)'),
])
def test_detectors_of_any_backbone(config, said):
    done = attempt(f'mmdet::{config}', 'Swapped', 128)
    assert (done.failed, done.error, done.backbone) == ('', '', said)


def test_backbones_of_a_part():
    cfg = load_config('mmdet::qdtrack/qdtrack_faster-rcnn_r50_fpn_4e_base.py')
    assert backbones_in(cfg.model) == [cfg.model.detector]


def test_other_backbones_are_named():
    done = attempt('mmdet::ssd/ssd300_coco.py', 'SCConvResNet')
    assert done.failed == 'build' and "['SSDVGG']" in done.error


def test_a_loss_that_is_not_finite_fails(monkeypatch):

    def nan_loss(self, losses):
        return losses['loss_bbox'][0] * float('nan'), {}

    monkeypatch.setattr('mmdet.models.RetinaNet.parse_losses', nan_loss)
    done = attempt(RETINANET, None, size=64)
    assert (done.failed, done.error) == ('train',
                                         'ArithmeticError: the loss is nan')


def test_an_error_without_a_message_is_reported_with_its_line(monkeypatch):

    def fail(self, losses):
        raise AssertionError

    monkeypatch.setattr('mmdet.models.RetinaNet.parse_losses', fail)
    done = attempt(RETINANET, None, size=64)
    assert done.error == 'AssertionError: raise AssertionError'


def test_a_parameter_without_gradient_fails(monkeypatch):

    def of_the_head(self, inputs, data_samples):
        return dict(loss=self.bbox_head.retina_cls.bias.sum())

    monkeypatch.setattr('mmdet.models.RetinaNet.loss', of_the_head)
    done = attempt(RETINANET, 'SCConvResNet', size=64)
    assert done.failed == 'train'
    assert done.error == 'RuntimeError: backbone.conv1.weight gets no gradient'


def test_what_the_stock_detector_does_not_use_either():
    """YOLOv3 takes no output of MobileNetV2's last convolution."""
    trial = try_config('mmdet::yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py',
                       attempt, 'Swapped', sizes=(64, ))
    assert trial.works
    assert 'backbone.conv2.conv.weight' in trial.swapped.unused


@pytest.mark.parametrize('code,timeout,error', [
    # seconds may pass before it starts, on a busy machine
    ("__import__('os')._exit(3)", 280, 'the process ended with exit code 3'),
    ("__import__('time').sleep(60)", 2, 'not finished after 2 s'),
])
def test_a_crash_or_hang_is_reported(tmp_path, code, timeout, error):
    config = tmp_path / 'config.py'
    config.write_text(code)
    done = attempt_apart(str(config), None, timeout=timeout)
    assert (done.failed, done.error) == ('run', error)


@pytest.mark.parametrize('new,stock,verdict,by_swap', [
    (Attempt(), None, 'works', False),
    (FAILED, Attempt(), 'fails by the swap, train: ValueError: a', True),
    (FAILED, FAILED, 'fails, as the stock config does, train: ValueError: a',
     False),
    (Attempt(failed='train', error='a', unused=('backbone.a.b', )),
     Attempt(), 'fails by the swap, train: a', True),
    (FAILED, Attempt(failed='build', error='KeyError: b'),
     'fails, train: ValueError: a; so does the stock config, build: '
     'KeyError: b', False),
])
def test_verdict(new, stock, verdict, by_swap):
    trial = try_config('c.py', lambda _, name, size: new if name else stock,
                       sizes=[96])
    assert trial == Trial('c.py', 96, new, stock)
    assert (trial.verdict, trial.fails_by_swap) == (
        verdict, by_swap)


@pytest.mark.parametrize('new,stock,sizes', [
    ([Attempt()], [], [128]),
    ([FAILED, Attempt()], [FAILED], [128, 384]),
    ([FAILED, FAILED], [FAILED, FAILED], [128, 384]),
    ([FAILED], [Attempt()], [128]),
    ([FAILED, FAILED], [FAILED, Attempt()], [128, 384]),
    ([Attempt(failed='build')], [FAILED], [128]),
])
def test_larger_images_for_what_fails_with_both(new, stock, sizes):
    taken = []

    def run(config, backbone, size):
        taken.append(size)
        return (new if backbone else stock)[sizes.index(size)]

    trial = try_config('c.py', run)
    assert trial == Trial('c.py', sizes[-1], new[-1],
                          stock[-1] if len(stock) == len(new) else None)
    assert sorted(set(taken)) == sizes


def test_representatives(tmp_path, monkeypatch):
    resnet = "model = dict(backbone=dict(type='ResNet'))"
    for name, text in {
            'a/a_r101.py': resnet,
            'a/a_r50_long.py': resnet,
            'a/a_r50_b.py': resnet,
            'a/a_r50_a.py': resnet,
            'b/b_r50.py': "_base_ = 'not_there.py'",
            'b/b_x101.py': resnet.replace('ResNet', 'ResNeXt'),
            'c/c_r50.py': resnet.replace('ResNet', 'Res2Net'),
            'c/schedule.py': 'lr = 1',
            'd/d_r50.py': f'model = dict(detector=dict({resnet[13:]})',
            '_base_/e_r50.py': resnet,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(stock_configs, 'STOCK_CONFIGS', tmp_path)
    assert representatives() == ([
        'mmdet::a/a_r50_a.py', 'mmdet::b/b_x101.py', 'mmdet::d/d_r50.py'
    ], ['c'])
    assert other_backbones() == ['mmdet::c/c_r50.py']


def test_markdown(tmp_path):
    path = tmp_path / 'new' / 'table.md'
    trials = [
        Trial('a.py', 64, Attempt('SCConvResNet', 1_500_000, 1.234)),
        Trial('b.py', 64, FAILED, FAILED),
        Trial('c.py', 64, FAILED, Attempt())
    ]
    write_markdown(str(path), 'SCConvResNet', trials, ['yolox'])
    text = path.read_text()
    assert 'Of 3 configs 1 work, 1 fail by the swap, and\n1 fail as' in text
    assert '| a.py | SCConvResNet | 1.50 | 64 | 1.23 | works |' in text
    assert f'torch {torch.__version__}' in text and 'yolox.' in text


def test_tool(tmp_path, monkeypatch):
    """Its exit code tells of a config that fails by the swap alone."""
    cfg = Config(
        dict(model=load_config(RETINANET).model, default_scope='mmdet'))
    cfg.dump(tmp_path / 'config.py')
    # a width that the 16 groups of SRU's GroupNorm do not divide
    cfg.model.backbone.base_channels = 8
    cfg.model.neck.in_channels = [8, 16, 32, 64]
    cfg.dump(tmp_path / 'wrong.py')
    monkeypatch.chdir(tmp_path)
    code, output = call_tool(
        REPO / 'tools/misc/try_backbone.py', 'config.py', 'wrong.py', '--size',
        64, '--out', 'out/table.csv', 'out/table.md', '--log-dir', 'logs')
    assert code == 1
    assert output.rstrip().endswith('Failed by the swap: wrong.py')
    with open(tmp_path / 'out/table.csv') as f:
        columns, first, second = csv.reader(f)
    assert tuple(columns) == COLUMNS
    assert first[-1] == 'works'
    assert second[-1].startswith('fails by the swap, build: ValueError: ')
    assert f'| {" | ".join(first)} |' in (tmp_path /
                                          'out/table.md').read_text()
    assert 'Traceback' in (tmp_path / 'logs/wrong.SCConvResNet.log'
                           ).read_text()
