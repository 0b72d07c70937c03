import copy

import pytest
import torch
from conftest import REPO
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from mmdet_scconv.benchmark import cases, measuring
from mmdet_scconv.benchmark.textbook import switch_to_textbook
from mmdet_scconv.layers import SCConv

DIGITS = REPO / 'configs/digits'
SMALL = dict(shape=(64, 96), batch=2)


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('options', [{}, dict(stride=2, alpha=0.75)], ids=str)
def test_textbook_equals_scconv(options, training):
    """In float64: benchmarks compare the same function."""
    torch.manual_seed(0)
    conv = SCConv(32, 32, 3, padding=1, **options).double().train(training)
    textbook = switch_to_textbook(nn.Sequential(copy.deepcopy(conv)))
    x = torch.randn(2, 32, 9, 7, dtype=torch.float64)
    torch.testing.assert_close(textbook(x), conv(x), rtol=1e-10, atol=1e-10)


def test_textbook_needs_scconv():
    with pytest.raises(ValueError, match='Conv2d has no SCConv'):
        switch_to_textbook(nn.Conv2d(3, 4, 1))


def model(slug):
    return Config.fromfile(
        DIGITS / f'faster-rcnn_{slug}_fpn_6e_digits.py').model


@pytest.mark.parametrize('part', cases.PARTS)
@pytest.mark.parametrize('task', cases.TASKS)
def test_compare(part, task):
    """Every part and task runs, the first system has the ratio 1."""
    dense, ours, textbook = measuring.compare(
        cases.Case(part, task, **SMALL),
        dict(dense=(model('r50'), 'as-is'),
             ours=(model('scconv-r50'), 'as-is'),
             textbook=(model('scconv-r50'), 'textbook')),
        rounds=2,
        warm_up=1)
    assert dense.ratios == [1, 1]
    assert ours.ratios == [o / d for o, d in zip(ours.seconds, dense.seconds)]
    assert (dense.kept_mb is not None) == (task == 'training')
    if task == 'training':
        assert textbook.kept_mb > ours.kept_mb


def test_kept_for_backward():
    """A ReLU keeps its output, which a convolution keeps as its input."""
    net = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU())
    x = torch.randn(1, 4, 100, 100, requires_grad=True)
    kept = measuring.kept_for_backward(lambda: net(x), 'cpu')
    assert kept == pytest.approx(2 * x.numel() * 4 / 1e6, rel=0.01)


def test_norm_statistics():
    """With random weights, activations are as large as ordinary ones."""
    backbone = MODELS.build(dict(type='SCConvResNet', depth=50))
    cases.set_norm_statistics(backbone)
    backbone.eval()
    assert backbone(torch.randn(1, 3, 64, 64))[-1].abs().max() < 1e3


def test_deploy_is_for_inference():
    with pytest.raises(ValueError, match="form='deploy' is not valid"):
        cases.build(model('scconv-r50'), 'deploy',
                    cases.Case(task='training', **SMALL))



def config(slug):
    return Config.fromfile(
        REPO / f'configs/scconv/faster-rcnn_{slug}_fpn_1x_coco.py').model


def training_regime(backbone):
    """Stages with gradients, and whether BatchNorms use the batch."""
    return ([any(p.requires_grad for p in getattr(backbone, name).parameters())
             for name in ('conv1', *backbone.res_layers)],
            {m.training for m in backbone.modules()
             if isinstance(m, nn.modules.batchnorm._BatchNorm)})


@pytest.mark.parametrize('slug,regime,trained,batch_statistics', [
    ('r50', 'shipped', [False, False, True, True, True], {False}),
    ('scconv-r50', 'shipped', [False, False, True, True, True], {False}),
    ('r50', 'norm-eval', 5 * [True], {False}),
    ('r50', 'batch-statistics', 5 * [True], {True}),
])
def test_regime(slug, regime, trained, batch_statistics):
    """By default the row is measured as its config says."""
    cfg = config(slug)
    cfg.backbone.norm_cfg.type = 'SyncBN'
    before = copy.deepcopy(cfg)
    backbone = cases.build(
        cfg, 'as-is', cases.Case(task='training', regime=regime, **SMALL))
    assert training_regime(backbone) == (trained, batch_statistics)
    assert cfg == before


def test_nothing_to_train():
    cfg = config('r50')
    cfg.backbone.frozen_stages = 4
    with pytest.raises(ValueError, match="regime='shipped' is not valid"):
        cases.build(cfg, 'as-is', cases.Case(task='training', **SMALL))


@pytest.mark.parametrize('task', cases.TASKS)
def test_detector_in_bf16_on_a_cpu(task):
    """Heads and post-processing run on float32 maps."""
    case = cases.Case('detector', task, dtype='bf16', **SMALL)
    detector = cases.build(model('scconv-r50'), 'as-is', case)
    seen = set()
    detector.neck.lateral_convs[0].conv.register_forward_hook(
        lambda module, args, out: seen.add(out.dtype))
    detector.roi_head.bbox_roi_extractor.register_forward_hook(
        lambda module, args, out: seen.add(args[0][0].dtype))
    step, _ = measuring.step_of(detector, case)
    step()
    assert seen == {torch.bfloat16, torch.float32}
