"""The general swap: any backbone, neck and head of MMDetection."""
import copy
import io
import itertools
import logging
from collections import OrderedDict

import pytest
import torch
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmengine.logging import MMLogger
from torch import nn

from mmdet_scconv.backbones import swap_convs
from mmdet_scconv.backbones.deploy import fold_batch_norms
from mmdet_scconv.layers import SCConv

SMALL = dict(deepen_factor=0.33, widen_factor=0.25)
BACKBONES = {
    'CSPNeXt': dict(SMALL),
    'CSPDarknet': dict(SMALL),
    'Darknet': dict(depth=53),
    'RegNet': dict(arch='regnetx_400mf'),
    'Res2Net': dict(depth=50, scales=4, base_width=26),
    'HRNet': dict(extra=dict(
        stage1=dict(num_modules=1, num_branches=1, block='BOTTLENECK',
                    num_blocks=(1, ), num_channels=(64, )),
        stage2=dict(num_modules=1, num_branches=2, block='BASIC',
                    num_blocks=(1, 1), num_channels=(18, 36)),
        stage3=dict(num_modules=1, num_branches=3, block='BASIC',
                    num_blocks=(1, 1, 1), num_channels=(18, 36, 72)),
        stage4=dict(num_modules=1, num_branches=4, block='BASIC',
                    num_blocks=(1, 1, 1, 1),
                    num_channels=(18, 36, 72, 144)))),
    'MobileNetV2': dict(widen_factor=0.5),
    'SwinTransformer': dict(embed_dims=32, depths=(1, 1, 1, 1),
                            num_heads=(1, 2, 4, 8)),
    'PyramidVisionTransformer': dict(embed_dims=32, num_layers=[1, 1, 1, 1],
                                     num_heads=(1, 2, 4, 8)),
}
# those that have dense 3x3 convolutions behind the first one
SWAPPED = {'CSPNeXt': 10, 'CSPDarknet': 12, 'Darknet': 28, 'Res2Net': 50,
           'HRNet': 39}
CHANNELS = [32, 64, 128]
NECKS = {
    'FPN': dict(in_channels=CHANNELS, out_channels=32, num_outs=4),
    'PAFPN': dict(in_channels=CHANNELS, out_channels=32, num_outs=4),
    'YOLOXPAFPN': dict(in_channels=CHANNELS, out_channels=32),
    'CSPNeXtPAFPN': dict(in_channels=CHANNELS, out_channels=32),
}
HEADS = {
    'RetinaHead': dict(num_classes=3, in_channels=32, feat_channels=32),
    'RPNHead': dict(in_channels=32, feat_channels=32),
    'RTMDetSepBNHead': dict(
        num_classes=3, in_channels=32, feat_channels=32, stacked_convs=2,
        anchor_generator=dict(type='MlvlPointGenerator', offset=0,
                              strides=[8, 16, 32]),
        bbox_coder=dict(type='DistancePointBBoxCoder'),
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0,
                      loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0)),
    'YOLOXHead': dict(num_classes=3, in_channels=32, feat_channels=32),
}
ALL = {**BACKBONES, **NECKS, **HEADS}


def build(name, select=None, conv=None, **options):
    """With all 3x3 swapped, those with a stride, too, unless selected."""
    return MODELS.build(dict(
        type='Swapped', module=dict(type=name, **ALL[name]),
        conv=conv or dict(type='SCConv'),
        select=select or dict(stride=None), **options))


def stock(name):
    return MODELS.build(dict(type=name, **ALL[name]))


def inputs(name, batch=2, dtype=torch.float32):
    """Of a backbone, or of a neck or head."""
    torch.manual_seed(1)
    if name in BACKBONES:
        return torch.randn(batch, 3, 64, 64, dtype=dtype)
    channels = CHANNELS if name in NECKS else [32] * (
        5 if name in ('RetinaHead', 'RPNHead') else 3)
    return [torch.randn(batch, width, 2**(5 - i), 2**(5 - i), dtype=dtype)
            for i, width in enumerate(channels)]


def flat(outputs):
    """The tensors of nested tuples and lists."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    return [tensor for part in outputs for tensor in flat(part)]


@pytest.mark.parametrize('name', ALL)
def test_nothing_selected_is_the_stock_module(name):
    """State-dict keys, initial weights and outputs, bit by bit."""
    pair = []
    for make in (lambda: build(name, dict(include=())), lambda: stock(name)):
        torch.manual_seed(0)
        pair.append(make())
        pair[-1].init_weights()
    swapped, dense = pair
    assert isinstance(swapped, type(dense))
    ours, theirs = swapped.state_dict(), dense.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    for mode in (True, False):
        outputs = []
        for module in pair:
            module.train(mode)
            torch.manual_seed(2)
            outputs.append(flat(module(inputs(name))))
        assert all(map(torch.equal, *outputs))


@pytest.mark.parametrize('name', ALL)
def test_swapped_trains(name):
    """Outputs as the stock module's; every parameter that had a gradient has
    one, and all those of the new convolutions."""
    swapped, dense = build(name), stock(name)
    swapped.init_weights()
    swapped.norm_eval = dense.norm_eval = False  # of some backbones
    outputs = []
    for module in (swapped, dense):
        module.train()
        outputs.append(flat(module(inputs(name))))
        sum(out.square().mean() for out in outputs[-1]).backward()
    assert [o.shape for o in outputs[0]] == [o.shape for o in outputs[1]]
    without = {n for n, p in dense.named_parameters() if p.grad is None}
    assert {n for n, p in swapped.named_parameters()
            if p.grad is None} <= without
    assert all(p.grad.isfinite().all() for p in swapped.parameters()
               if p.grad is not None)
    new = [m for m in swapped.modules() if isinstance(m, SCConv)]
    if name in BACKBONES:
        assert len(new) == SWAPPED.get(name, 0)
    else:
        assert new
    # their names are those of the dense convolutions
    shared = {n for n in swapped.state_dict()
              if not n.startswith(tuple(swapped.swapped_convs))}
    assert shared < set(dense.state_dict()) or not new


@pytest.mark.parametrize('name', ALL)
def test_deployed_equals(name):
    torch.manual_seed(0)
    module = build(name).double().train()
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
    module(inputs(name, 4, torch.float64))
    x = inputs(name, dtype=torch.float64)
    expected = flat(module.eval()(x))
    for _ in range(2):
        assert module.switch_to_deploy() is module
        for a, e in zip(flat(module(x)), expected):
            torch.testing.assert_close(a, e, rtol=1e-9, atol=1e-9)
    assert not [m for m in module.modules() if isinstance(m, SCConv)]


@pytest.mark.parametrize('order', list(itertools.permutations(
    ('conv', 'norm', 'act'))), ids='-'.join)
def test_only_the_norm_right_behind_a_convolution_is_folded(order):
    torch.manual_seed(0)
    net = nn.Sequential(ConvModule(
        16, 16, 3, padding=1, norm_cfg=dict(type='BN'), order=order)).eval()
    nn.init.normal_(net[0].bn.running_mean)
    nn.init.normal_(net[0].bn.bias)
    x = torch.randn(2, 16, 8, 8)
    expected = net(x)
    fold_batch_norms(net)
    torch.testing.assert_close(net(x), expected)
    folded = isinstance(net[0].norm, nn.Identity)
    assert folded == (order.index('norm') == order.index('conv') + 1)


def test_shared_convolutions_stay_shared():
    """RTMDet's head has one convolution for all levels, and norms for each.
    """
    head = build('RTMDetSepBNHead')
    for convs in (head.cls_convs, head.reg_convs):
        assert isinstance(convs[0][1].conv, SCConv)
        assert convs[0][1].conv is convs[2][1].conv
        assert convs[0][0].conv is not convs[0][1].conv
    report = head.swap_report
    assert list(report.swapped) == [
        'cls_convs.0.0.conv', 'cls_convs.0.1.conv', 'reg_convs.0.0.conv',
        'reg_convs.0.1.conv']
    assert report.shared['cls_convs.0.1.conv'] == (
        'cls_convs.1.1.conv', 'cls_convs.2.1.conv')
    assert 'cls_convs.2.1.conv' in head.swapped_convs


@pytest.mark.parametrize('norm_cfg,warned', [
    (dict(type='BN'), 4), (dict(type='GN', num_groups=8), 0)])
def test_batch_norms_inside_shared_convolutions_are_warned_of(
        norm_cfg, warned):
    report = build('RTMDetSepBNHead', conv=dict(
        type='SCConv', norm_cfg=norm_cfg)).swap_report
    assert len(report.shared_norms) == warned
    warnings = [line for level, line in report.lines()
                if level == logging.WARNING]
    assert len(warnings) == bool(warned)
    if warned:
        assert 'cls_convs.0.0.conv' in warnings[0]
        assert "norm_cfg=dict(type='GN'" in warnings[0]


def test_predictors_stay():
    head = build('RetinaHead')
    assert type(head.retina_cls) is type(head.retina_reg) is nn.Conv2d
    assert 'predictor' in head.swap_report.passed_over['retina_cls']
    assert isinstance(build('RPNHead').rpn_conv, SCConv)
    named = build('RetinaHead', dict(include='retina_reg'))
    assert list(named.swap_report.swapped) == ['retina_reg']


def layers():
    """A small network of one convolution of each kind."""
    parts = dict(
        stem=nn.Conv2d(3, 32, 3, padding=1),
        dense=nn.Conv2d(32, 48, 3, padding=1),
        strided=nn.Conv2d(48, 48, 3, 2, 1, bias=False),
        large=nn.Conv2d(48, 48, 5, padding=2),
        point=nn.Conv2d(48, 48, 1),
        flat=nn.Conv2d(48, 48, (1, 3), padding=(0, 1)),
        depthwise=nn.Conv2d(48, 48, 3, padding=1, groups=48),
        grouped=nn.Conv2d(48, 48, 3, padding=1, groups=2),
        dilated=nn.Conv2d(48, 48, 3, padding=2, dilation=2),
        circular=nn.Conv2d(48, 48, 3, padding=1, padding_mode='circular'),
        unpadded=nn.Conv2d(48, 48, 3),
        odd=nn.Conv2d(48, 49, 3, padding=1),
        up=nn.ConvTranspose2d(49, 48, 3, padding=1))
    return nn.Sequential(OrderedDict(parts))


@pytest.mark.parametrize('head,predictors', [
    (dict(type='SOLOHead', num_classes=80, in_channels=32, feat_channels=32,
          stacked_convs=2, strides=[8, 16], num_grids=[8, 4],
          scale_ranges=((1, 96), (48, 200)),
          loss_mask=dict(type='DiceLoss', use_sigmoid=True),
          loss_cls=dict(type='FocalLoss', use_sigmoid=True)),
     ['conv_cls']),
    # as many classes as channels
    (dict(type='RTMDetHead', num_classes=32, in_channels=32, feat_channels=32,
          stacked_convs=2, pred_kernel_size=3, with_objectness=False,
          loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True)),
     ['rtm_cls']),
    (dict(type='RPNHead', in_channels=32, feat_channels=32), []),
])
def test_predictors_of_any_head_stay(head, predictors):
    report = MODELS.build(dict(
        type='Swapped', module=head, select=dict(min_channels=3))).swap_report
    assert report.swapped
    assert [name for name, reason in report.passed_over.items()
            if reason.startswith('looks like a predictor')
            and 'reg' not in name] == predictors


def test_two_convolutions_in_one_network(tmp_path):
    module = dict(type='CSPNeXt', **SMALL)
    torch.save(MODELS.build(module).state_dict(), tmp_path / 'dense.pth')
    first = dict(type='Swapped', module=module, conv=dict(type='SPConv'),
                 select=dict(include='stage3'))
    both = MODELS.build(dict(
        type='Swapped', module=first, select=dict(include='stage4'),
        init_cfg=dict(type='Pretrained',
                      checkpoint=str(tmp_path / 'dense.pth'))))
    kinds = {name.split('.')[0]: type(both.get_submodule(name)).__name__
             for name in both.swapped_convs}
    assert kinds == {'stage3': 'SPConv', 'stage4': 'SCConv'}
    assert both.dense_class.__name__ == 'CSPNeXt'
    both.init_weights()
    assert both.to_be_fitted()
    both.train()(torch.randn(2, 3, 64, 64))
    assert not both.frozen_without_weights()


def test_what_is_swapped_and_why_not():
    net = layers()
    before = dict(net.named_children())
    report = swap_convs(net)
    assert report.swapped == dict(
        dense='3x3 32->48', dilated='3x3 48->48', odd='3x3 48->49')
    reasons = dict(report.passed_over)
    assert reasons.pop('unpadded').startswith('padding=(0, 0) is not valid')
    assert reasons == dict(
        stem='fewer than min_channels=16', large='kernel 5x5',
        point='kernel 1x1', flat='kernel 1x3', depthwise='depth-wise 3x3',
        strided='stride 2x2',
        grouped='grouped 3x3', circular="padding_mode='circular'",
        up='ConvTranspose2d, not nn.Conv2d')
    for name in report.swapped:
        old, new = before[name], getattr(net, name)
        assert isinstance(new, SCConv)
        for attribute in ('in_channels', 'out_channels', 'kernel_size',
                          'stride', 'padding', 'dilation'):
            assert getattr(new, attribute) == getattr(old, attribute)
        assert (new.bias is None) == (old.bias is None)
    for name in report.passed_over:
        assert getattr(net, name) is before[name]


@pytest.mark.parametrize('select,swapped', [
    (dict(kernel_size=5), ['large']),
    (dict(), ['dense', 'dilated', 'odd']),
    (dict(kernel_size=(3, 5)), ['dense', 'large', 'dilated', 'odd']),
    (dict(kernel_size=(1, 3), include='flat'), ['flat']),
    (dict(stride=2), ['strided']),
    (dict(stride=(1, 2)), ['dense', 'strided', 'dilated', 'odd']),
    (dict(stride=None), ['dense', 'strided', 'dilated', 'odd']),
    (dict(min_channels=33), ['dilated', 'odd']),
    (dict(max_channels=48), ['dense', 'dilated']),
    (dict(include='d*'), ['dense', 'dilated']),
    (dict(include=('dense', 'point')), ['dense']),
    (dict(exclude='di*'), ['dense', 'odd']),
    (dict(include='d*', exclude='dense'), ['dilated']),
    (dict(include=()), []),
])
def test_select(select, swapped):
    assert list(swap_convs(layers(), select=select).swapped) == swapped


def test_select_by_name():
    backbone = build('CSPNeXt', dict(include=('stage3', 'stage4')))
    assert backbone.swap_report.swapped
    assert all(name.startswith(('stage3.', 'stage4.'))
               for name in backbone.swap_report.swapped)


def test_groups_may_be_replaced_on_demand():
    """As SCConvResNeXt: their number goes to the GWC."""
    backbone = build('RegNet', dict(groups=None, stride=None),
                     dict(type='SCConv', groups=1, gwc_groups=4))
    convs = [m for m in backbone.modules() if isinstance(m, SCConv)]
    assert len(convs) == 22 and convs[0].cru.gwc.groups == 4


@pytest.mark.parametrize('select,message', [
    (dict(kernel=3),
     'select: kernel=3 is not an option; options are kernel_size'),
    (dict(kernel_size='3'), "kernel_size='3' is not valid: an int >= 1"),
    (dict(stride=0), 'stride=0 is not valid'),
    (dict(min_channels=None), 'min_channels=None is not valid'),
    (dict(include=3), 'include=3 is not valid: a name'),
    (dict(exclude=None), 'exclude=None is not valid: a name'),
    (dict(exclude='stage9'), "exclude='stage9' is not the name of any conv.*"
     'Parts: stem, dense, strided'),
])
def test_wrong_select(select, message):
    with pytest.raises(ValueError, match=message):
        swap_convs(layers(), select=select)


@pytest.mark.parametrize('conv,message', [
    (dict(type='SCConv', alpha=2), r'none of the 3 convolutions of '
     r'Sequential .* can be swapped; strided: alpha=2 is not valid'),
    (dict(type='SlimConv', k='8/3'), r'gives 18 output channels where 48'),
    (dict(type='SCKonv'), "no convolution is registered as 'SCKonv'"),
    (dict(alpha=0.5), 'is not valid: the name of a convolution'),
])
def test_wrong_convolution_changes_nothing(conv, message):
    net = layers()
    before = dict(net.named_modules())
    with pytest.raises(ValueError, match=message):
        swap_convs(net, conv, dict(exclude=('dense', 'odd'), stride=None))
    assert dict(net.named_modules()) == before


def test_options_that_are_no_dicts():
    for options in (dict(conv='SCConv'), dict(select='stage4')):
        with pytest.raises(ValueError, match='is not valid: a dict'):
            MODELS.build(dict(type='Swapped', module=dict(
                type='CSPNeXt', **SMALL), **options))


def test_deformable_convolutions_stay_whole():
    """Their offsets are convolutions of 27 channels that start at zero."""
    head = MODELS.build(dict(
        type='Swapped',
        module=dict(type='YOLOXHead', num_classes=3, in_channels=32,
                    feat_channels=32, dcn_on_last_conv=True)))
    report = head.swap_report
    assert report.passed_over['multi_level_cls_convs.0.1.conv'] == \
        'ModulatedDeformConv2dPack, not nn.Conv2d'
    assert not [name for name in {**report.swapped, **report.passed_over}
                if 'offset' in name]


def test_a_second_swap_leaves_the_first_one_whole():
    net = layers()
    swap_convs(net)
    assert not swap_convs(net, select=dict(kernel_size=None,
                                           include='dilated')).swapped


def test_spectral_norm_stays():
    net = nn.Sequential(
        ConvModule(32, 32, 3, padding=1, with_spectral_norm=True))
    assert 'spectral norm' in swap_convs(net).passed_over['0.conv']


def test_efficient_conv_bn_eval_is_off():
    """It would read the dense weight."""
    net = nn.Sequential(ConvModule(
        32, 32, 3, padding=1, norm_cfg=dict(type='BN'),
        efficient_conv_bn_eval=True))
    swap_convs(net)
    assert net.eval()(torch.randn(1, 32, 8, 8)).shape == (1, 32, 8, 8)


def test_norms_inside():
    """As the one behind the convolution, unless ``conv`` names another."""
    norm_cfg = dict(type='BN', momentum=0.03, eps=0.001)
    backbone = build('CSPNeXt')
    cru = backbone.stage1[0].conv.cru
    assert (cru.bn1.momentum, cru.bn1.eps) == (0.03, 0.001)
    head = build('RetinaHead', conv=dict(
        type='SCConv', norm_cfg=dict(type='GN', num_groups=8)))
    assert isinstance(head.cls_convs[0].conv.cru.bn1, nn.GroupNorm)
    module = dict(type='CSPNeXt', norm_cfg=dict(norm_cfg, eps=0.5), **SMALL)
    backbone = MODELS.build(dict(type='Swapped', module=module))
    assert backbone.stage1[1].blocks[0].conv1.conv.cru.bn2.eps == 0.5


@pytest.mark.parametrize('width,groups,fitted', [
    (64, (16, 2), {}),
    (24, (8, 2), {'0': 'gn_groups=8'}),
    (26, (2, 2), {'0': 'gn_groups=2'}),
    (36, (4, 1), {'0': 'gn_groups=4, gwc_groups=1'}),
])
def test_groups_fit_the_width(width, groups, fitted):
    net = nn.Sequential(nn.Conv2d(width, width, 3, padding=1))
    report = swap_convs(net)
    assert (net[0].sru.gn.num_groups, net[0].cru.gwc.groups) == groups
    assert report.fitted == fitted


def test_groups_that_were_asked_for():
    with pytest.raises(ValueError, match='gn_groups=16 is not valid'):
        swap_convs(nn.Sequential(nn.Conv2d(24, 24, 3, padding=1)),
                   dict(type='SCConv', gn_groups=16))


def test_the_log_says_what_was_swapped(monkeypatch):
    lines = []
    logger = MMLogger.get_instance('test_swapped')
    monkeypatch.setattr(MMLogger, 'get_current_instance',
                        classmethod(lambda cls: logger))
    monkeypatch.setattr(logger, 'log',
                        lambda level, line: level >= logging.INFO
                        and lines.append(line))
    backbone = build('CSPDarknet')
    text = '\n'.join(lines)
    assert text == str(backbone.swap_report)
    assert text.startswith('CSPDarknet: 12 of 35 ')
    assert 'not swapped, kernel 1x1: ' in text
    assert 'not swapped, fewer than min_channels=16: 1 (stem.conv.conv)' in \
        text


def through_a_file(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_a_copy_of_a_compiled_module_is_itself():
    """Else it runs the original's weights, and the original's hooks."""
    backbone = build('CSPNeXt').eval()
    backbone.compile(backend='eager')
    other = copy.deepcopy(backbone)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    assert not any(level.any() for level in other(torch.randn(1, 3, 64, 64)))


@pytest.mark.parametrize('copied', [copy.deepcopy, through_a_file])
def test_copies(copied):
    backbone = build('CSPNeXt').eval()
    other = copied(backbone)
    assert type(other) is type(backbone)
    assert other.swapped_convs == backbone.swapped_convs
    x = inputs('CSPNeXt')
    assert all(map(torch.equal, other(x), backbone(x)))


def test_arguments_of_a_base_config():
    """The keys that a stock config's backbone leaves beside ``type``."""
    base = dict(type='CSPNeXt', arch='P5', **SMALL)
    cfg = {**base, 'type': 'Swapped', 'module': dict(type='CSPNeXt')}
    assert str(MODELS.build(cfg).swap_report) == str(
        build('CSPNeXt', dict(stride=1)).swap_report)


def test_a_detector_gives_its_heads_more():
    detector = MODELS.build(dict(
        type='RetinaNet',
        backbone=dict(type='Swapped', module=dict(
            type='CSPNeXt', out_indices=(2, 3, 4), **SMALL)),
        neck=dict(type='Swapped', module=dict(
            type='FPN', in_channels=[64, 128, 256], out_channels=32,
            num_outs=5)),
        bbox_head=dict(type='Swapped', module=dict(
            type='RetinaHead', **HEADS['RetinaHead'])),
        test_cfg=dict(nms_pre=100))).eval()
    assert detector.bbox_head.test_cfg == dict(nms_pre=100)
    assert len(detector(torch.randn(1, 3, 64, 64))[0]) == 5


def test_frozen_stays_frozen():
    module = dict(type='Res2Net', frozen_stages=1, **BACKBONES['Res2Net'])
    backbone = MODELS.build(dict(type='Swapped', module=module))
    convs = backbone.layer1[0].convs
    assert isinstance(convs[0], SCConv)
    assert not any(p.requires_grad for p in convs[0].parameters())
    assert not any(m.training for m in convs[0].modules())
    assert all(p.requires_grad for p in backbone.layer2[0].convs.parameters())


# weights


@pytest.fixture
def dense_file(tmp_path):
    state = stock('CSPNeXt').state_dict()
    path = tmp_path / 'dense.pth'
    torch.save({f'backbone.{key}': value for key, value in state.items()},
               path)
    return str(path)


def loaded(path, **options):
    backbone = build('CSPNeXt', init_cfg=dict(
        type='Pretrained', prefix='backbone.', checkpoint=path), **options)
    backbone.init_weights()
    return backbone


def test_dense_weights_fill_what_was_not_swapped(dense_file):
    backbone = loaded(dense_file)
    report = backbone.load_report
    assert (len(report.random_convs()) == len(report.dense)
            == SWAPPED['CSPNeXt'])
    assert not report.unexpected and not report.wrong_shape
    state = torch.load(dense_file)
    for name, value in backbone.state_dict().items():
        if f'backbone.{name}' in state and 'tracked' not in name:
            assert torch.equal(value, state[f'backbone.{name}'])


@pytest.mark.parametrize('options,message', [
    (dict(frozen_stages=2), r'FROZEN WITHOUT WEIGHTS: \d+ weights of '
     r'SwappedCSPNeXt \(stage1.0.conv.cru.squeeze_up.weight'),
    (dict(norm_eval=True), r'NORM_EVAL WITHOUT STATISTICS: 40 BatchNorms'),
])
def test_random_weights_may_not_be_frozen(options, message, dense_file):
    options = dict(options, swapped_init='random')
    backbone = loaded(dense_file, **options)
    with pytest.raises(ValueError, match=message):
        backbone.train()
    loaded(dense_file, freeze_without_weights=True, **options).train()
    # its own weights
    path = dense_file.replace('dense', 'own')
    torch.save({f'backbone.{k}': v for k, v in backbone.state_dict().items()},
               path)
    loaded(path, **options).train()


def test_a_teacher_may_be_frozen():
    """As semi-supervised detectors freeze theirs, and call train() on it."""
    backbone = build('CSPNeXt')
    backbone.init_weights()
    backbone.requires_grad_(False)
    backbone.train()
