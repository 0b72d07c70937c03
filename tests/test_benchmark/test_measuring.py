import contextlib
import copy
from functools import partial

import pytest
import torch
from conftest import REPO
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from mmdet_scconv.benchmark import cases, convolutions, measuring, models
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
        dict(dense=partial(models.build, model('r50'), 'as-is'),
             ours=partial(models.build, model('scconv-r50'), 'as-is'),
             textbook=partial(models.build, model('scconv-r50'), 'textbook')),
        rounds=2,
        warm_up=1)
    assert dense.ratios == [1, 1]
    assert ours.ratios == [o / d for o, d in zip(ours.seconds, dense.seconds)]
    assert (dense.kept_mb is not None) == (task == 'training')
    if task == 'training':
        assert textbook.kept_mb > ours.kept_mb


@pytest.mark.parametrize('task', cases.TASKS)
def test_convolutions_alone(task):
    """The same function in each form, at the sizes of ResNet-50's stages."""
    case = cases.Case('layer', task, regime='norm-eval', **SMALL)
    results = {}
    for form in cases.FORMS[:2 if task == 'training' else 3]:
        layers = cases.layer_inputs(
            convolutions.build('scconv', form, case), case)
        assert [x.shape for _, x in layers] == [
            (2, 64, 16, 24), (2, 128, 8, 12), (2, 256, 4, 6), (2, 512, 2, 3)]
        assert all(x.is_contiguous(memory_format=torch.channels_last)
                   for _, x in layers)
        torch.manual_seed(1)
        results[form] = [conv(torch.randn(x.shape)) for conv, x in layers]
    for form in results:
        torch.testing.assert_close(results[form], results['as-is'],
                                   rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kind,form,options,message', [
    ('dense', 'deploy', {}, "form='deploy' is not valid for 'dense'"),
    ('scconv', 'deploy', dict(task='training'), "form='deploy' is not valid"),
    ('dense', 'textbook', {}, 'Convolutions has no SCConv'),
    ('scconv', 'as-is', dict(part='backbone'),
     "part='backbone' is not valid for 'scconv'"),
])
def test_convolutions_that_do_not_fit(kind, form, options, message):
    case = cases.Case(**{'part': 'layer', **SMALL, **options})
    with pytest.raises(ValueError, match=message):
        convolutions.build(kind, form, case)


@pytest.mark.parametrize('options', [
    dict(device='cpu'), dict(device='cuda', part='detector')], ids=str)
def test_where_there_are_no_cuda_graphs(options):
    with pytest.raises(ValueError, match="execution='cuda-graphs' is not"):
        cases.Case(execution='cuda-graphs', **options)


def test_cuda_graphs(monkeypatch):
    """The step runs before it is captured, and is replayed for each round;
    without a GPU, with what stands for CUDA's calls."""
    log = []

    class Graph:

        def replay(self):
            log.append('replay')

    class Stream:

        def wait_stream(self, other):
            pass

    @contextlib.contextmanager
    def entered(name):
        log.append(f'enter {name}')
        yield
        log.append(f'leave {name}')

    for name, value in dict(
            Stream=Stream, current_stream=Stream, CUDAGraph=Graph,
            stream=lambda stream: entered('stream'),
            graph=lambda graph: entered('graph')).items():
        monkeypatch.setattr(torch.cuda, name, value)
    replay = measuring.in_cuda_graph(lambda: log.append('step'), warm_up=2)
    replay()
    assert log == ['enter stream', 'step', 'step', 'leave stream',
                   'enter graph', 'step', 'leave graph', 'replay']


def test_kept_for_backward():
    """A ReLU keeps its output, which a convolution keeps as its input."""
    net = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU())
    x = torch.randn(1, 4, 100, 100, requires_grad=True)
    kept = measuring.kept_for_backward(lambda: net(x), 'cpu')
    assert kept == pytest.approx(2 * x.numel() * 4 / 1e6, rel=0.01)


def test_norm_statistics():
    """With random weights, activations are as large as ordinary ones."""
    backbone = MODELS.build(dict(type='SCConvResNet', depth=50))
    models.set_norm_statistics(backbone)
    backbone.eval()
    assert backbone(torch.randn(1, 3, 64, 64))[-1].abs().max() < 1e3


def test_deploy_is_for_inference():
    with pytest.raises(ValueError, match="form='deploy' is not valid"):
        models.build(model('scconv-r50'), 'deploy',
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
    backbone = models.build(
        cfg, 'as-is', cases.Case(task='training', regime=regime, **SMALL))
    assert training_regime(backbone) == (trained, batch_statistics)
    assert cfg == before


def test_nothing_to_train():
    cfg = config('r50')
    cfg.backbone.frozen_stages = 4
    with pytest.raises(ValueError, match="regime='shipped' is not valid"):
        models.build(cfg, 'as-is', cases.Case(task='training', **SMALL))


@pytest.mark.parametrize('task', cases.TASKS)
def test_detector_in_bf16_on_a_cpu(task):
    """Heads and post-processing run on float32 maps."""
    case = cases.Case('detector', task, dtype='bf16', **SMALL)
    detector = models.build(model('scconv-r50'), 'as-is', case)
    seen = set()
    detector.neck.lateral_convs[0].conv.register_forward_hook(
        lambda module, args, out: seen.add(out.dtype))
    detector.roi_head.bbox_roi_extractor.register_forward_hook(
        lambda module, args, out: seen.add(args[0][0].dtype))
    step, _ = measuring.step_of(detector, case)
    step()
    assert seen == {torch.bfloat16, torch.float32}


def test_inputs_of_layers_keep_no_gradient():
    """Adding to it would be a pass over memory for each system."""
    case = cases.Case('layer', 'training', regime='norm-eval', shape=(32, 32))
    step, forward = measuring.step_of(
        convolutions.build('scconv', 'as-is', case), case)
    step()
    leaves = [node.variable for out in forward()
              for node in leaf_nodes(out.grad_fn)]
    assert leaves and not any(leaf.grad is not None for leaf in leaves)


def leaf_nodes(node):
    """What a graph accumulates gradients in."""
    if node is None:
        return
    if hasattr(node, 'variable'):
        yield node
    for other, _ in node.next_functions:
        yield from leaf_nodes(other)


def test_regime_of_swapped_modules():
    """What ``module`` has comes before the options around it."""
    module = dict(type='ResNet', depth=18, base_channels=32,
                  stem_channels=32, frozen_stages=1, norm_eval=True)
    cfg = Config(dict(model=dict(backbone=dict(
        type='Swapped', module=module)))).model
    case = cases.Case(task='training', regime='batch-statistics', **SMALL)
    network = models.build(cfg, 'as-is', case)
    assert all(p.requires_grad for p in network.parameters())
    assert all(m.training for m in network.modules()
               if isinstance(m, nn.BatchNorm2d))


def test_systems_find_the_same_boxes():
    """Otherwise one NMS takes longer than the other, by chance."""
    case = cases.Case('detector', **SMALL)
    found = []
    for slug in ('r50', 'scconv-r50'):
        detector = models.build(model(slug), 'as-is', case)
        _, forward = measuring.step_of(detector, case)
        detector.roi_head.bbox_roi_extractor.register_forward_hook(
            lambda module, args, out: found.append((args[1], out)))
        forward()
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)


def test_equal_maps_have_gradients():
    """The backbone's backward pass is part of a detector's training step."""
    case = cases.Case('detector', 'training', **SMALL)
    detector = models.build(model('r50'), 'as-is', case)
    _, forward = measuring.step_of(detector, case)
    forward()[0].backward()
    trained = [p for p in detector.backbone.parameters() if p.requires_grad]
    assert trained and all(p.grad is not None for p in trained)
