import pytest
import torch
from mmcv.cnn.utils import fuse_conv_bn
from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS
from torch import nn

from mmdet_scconv.backbones import SCConvResNet, SPConvResNet, SwapResNet
from mmdet_scconv.layers import SCConv

SCCONV = dict(type='SCConv')


def millions_with_fc(backbone, group_norm=True, classes=1000):
    """Parameters in millions with an ImageNet classifier behind."""
    count = sum(p.numel() for p in backbone.parameters())
    count += (backbone.feat_dim + 1) * classes
    if not group_norm:
        count -= sum(p.numel() for m in backbone.modules()
                     if isinstance(m, nn.GroupNorm) for p in m.parameters())
    return round(count / 1e6, 3)


@pytest.mark.parametrize('depth,conv2_cfg,without,with_group_norm', [
    (50, {}, 16.780, 16.788),
    (50, dict(alpha=0.75), 17.685, 17.693),
    (101, {}, 28.003, 28.019),
])
def test_parameters_of_the_paper(depth, conv2_cfg, without, with_group_norm):
    backbone = SCConvResNet(depth, conv2_cfg=conv2_cfg)
    assert millions_with_fc(backbone, group_norm=False) == without
    assert millions_with_fc(backbone) == with_group_norm


@pytest.mark.parametrize('conv2_cfg,expected', [
    ({}, 18.345),
    (dict(alpha=0.75), 19.760),
])
def test_parameters_of_spconv(conv2_cfg, expected):
    backbone = SPConvResNet(50, conv2_cfg=conv2_cfg)
    assert millions_with_fc(backbone) == expected


@pytest.mark.parametrize('depth,expected', [(50, 25.557), (101, 44.549)])
def test_parameters_of_the_dense_baseline(depth, expected):
    backbone = SwapResNet(depth, SCCONV, stages_with_swap=(False, ) * 4)
    assert millions_with_fc(backbone) == expected


@pytest.mark.parametrize('depth', [18, 34, 50, 101, 152])
def test_build_forward_backward(depth):
    """Every depth, all outputs, every parameter gets a gradient."""
    backbone = MODELS.build(
        dict(type='SCConvResNet', depth=depth, norm_eval=False))
    backbone.init_weights()
    backbone.train()
    outs = backbone(torch.randn(2, 3, 64, 64))
    dense = ResNet(depth)
    assert [tuple(o.shape) for o in outs] == [
        tuple(o.shape) for o in dense(torch.randn(2, 3, 64, 64))
    ]
    sum(o.mean() for o in outs).backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
    swapped = [m for m in backbone.modules() if isinstance(m, SCConv)]
    assert len(swapped) == sum(backbone.stage_blocks)


@pytest.mark.parametrize('out_indices', [(0, ), (3, ), (1, 3), (0, 1, 2, 3)])
def test_out_indices(out_indices):
    backbone = SCConvResNet(18, out_indices=out_indices).eval()
    outs = backbone(torch.randn(1, 3, 33, 47))
    assert [o.shape[1] for o in outs] == [64 * 2**i for i in out_indices]


@pytest.mark.parametrize('options', [
    dict(depth=50),
    dict(depth=18, deep_stem=True, avg_down=True),
    dict(depth=50, style='caffe', frozen_stages=2,
         norm_cfg=dict(type='BN', requires_grad=False)),
])
def test_nothing_swapped_is_mmdet_resnet(options):
    torch.manual_seed(0)
    dense = ResNet(**options)
    dense.init_weights()
    plain = SwapResNet(
        conv2_cfg=SCCONV, stages_with_swap=(False, ) * 4, **options)
    assert list(plain.state_dict()) == list(dense.state_dict())
    plain.load_state_dict(dense.state_dict())
    x = torch.randn(2, 3, 64, 64)
    for training in (False, True):
        dense.train(training)
        for a, b in zip(plain.train(training)(x), dense(x)):
            assert torch.equal(a, b)
    assert [p.requires_grad for p in plain.parameters()] == \
        [p.requires_grad for p in dense.parameters()]


def test_unswapped_keys_are_mmdet_resnets():
    """So that dense checkpoints fill everything but conv2."""
    dense = ResNet(50).state_dict()
    ours = SCConvResNet(50).state_dict()
    assert [k for k in dense if '.conv2.' not in k] == [
        k for k in ours if '.conv2.' not in k
    ]


def test_stages_with_swap():
    backbone = SCConvResNet(18, stages_with_swap=(False, True, False, True))
    for stage, swapped in ((1, False), (2, True), (3, False), (4, True)):
        for block in getattr(backbone, f'layer{stage}'):
            assert isinstance(block.conv2, SCConv) == swapped
            assert not isinstance(block.conv1, SCConv)


def test_num_stages():
    """Like the C4 configs of MMDetection, which have three stages."""
    backbone = SCConvResNet(
        50,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2, ))
    assert backbone(torch.randn(1, 3, 32, 32))[0].shape == (1, 1024, 2, 2)


@pytest.mark.parametrize('style,strides', [('pytorch', (2, 2)),
                                           ('caffe', (1, 1))])
def test_style(style, strides):
    backbone = SCConvResNet(50, style=style)
    assert backbone.layer2[0].conv2.stride == strides
    assert backbone.layer2[1].conv2.stride == (1, 1)


def test_dilation():
    backbone = SCConvResNet(
        50, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)).eval()
    assert backbone.layer4[0].conv2.dilation == (2, 2)
    assert backbone(torch.randn(1, 3, 64, 64))[3].shape[2:] == (4, 4)


def batch_norms(module):
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def test_frozen_stages():
    backbone = SCConvResNet(18, frozen_stages=2, norm_eval=False).train()
    for stage in (1, 2):
        layer = getattr(backbone, f'layer{stage}')
        assert not any(p.requires_grad for p in layer.parameters())
        assert not any(m.training for m in layer.modules())
    assert all(p.requires_grad for p in backbone.layer3.parameters())
    assert all(m.training for m in backbone.layer3.modules())


@pytest.mark.parametrize('norm_eval', [True, False])
def test_norm_eval_reaches_the_inner_norms(norm_eval):
    backbone = SCConvResNet(18, norm_eval=norm_eval).train()
    inner = batch_norms(backbone.layer1[0].conv2)
    assert len(inner) == 4
    assert all(m.training != norm_eval for m in inner)


def test_norm_cfg_reaches_the_inner_norms():
    backbone = SCConvResNet(
        18, norm_cfg=dict(type='SyncBN', requires_grad=False, eps=1e-3))
    conv2 = backbone.layer1[0].conv2
    norms = [m for m in conv2.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert len(norms) == 4 and not batch_norms(conv2)
    assert all(m.eps == 1e-3 for m in norms)
    assert not any(p.requires_grad for m in norms for p in m.parameters())
    # the gate's GroupNorm is part of SRU, not a norm of norm_cfg
    assert conv2.sru.gn.weight.requires_grad


def test_with_cp_gives_the_same_gradients():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 48, 48, requires_grad=True)
    backbones = [SCConvResNet(50, with_cp=cp).train() for cp in (False, True)]
    backbones[1].load_state_dict(backbones[0].state_dict())
    for backbone in backbones:
        sum(o.square().mean() for o in backbone(x)).backward()
    for a, b in zip(*(m.parameters() for m in backbones)):
        torch.testing.assert_close(a.grad, b.grad)


def test_plugins():
    plugin = dict(
        cfg=dict(type='ContextBlock', ratio=1 / 4), position='after_conv2')
    backbone = SCConvResNet(50, plugins=[plugin])
    assert backbone(torch.randn(1, 3, 64, 64))[0].shape == (1, 256, 16, 16)
    assert backbone.layer1[0].with_plugins


def test_zero_init_residual():
    backbone = SCConvResNet(50)
    backbone.init_weights()
    assert (backbone.layer1[0].norm3.weight == 0).all()
    assert (backbone.layer1[0].conv2.cru.bn1.weight == 1).all()
    assert (backbone.layer1[0].conv2.sru.gn.weight == 1).all()


def test_any_registered_convolution():
    backbone = SwapResNet(18, conv2_cfg=dict(type='ConvWS'))
    assert type(backbone.layer1[0].conv2).__name__ == 'ConvWS2d'
    assert backbone(torch.randn(1, 3, 64, 64))[3].shape == (1, 512, 2, 2)


def test_fuse_conv_bn_leaves_outputs_unchanged():
    torch.manual_seed(0)
    backbone = SCConvResNet(50).double()
    for bn in batch_norms(backbone):
        nn.init.uniform_(bn.weight, 0.5, 1.5)
        nn.init.normal_(bn.bias)
        nn.init.normal_(bn.running_mean)
        nn.init.uniform_(bn.running_var, 0.5, 1.5)
    backbone.eval()
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    expected = backbone(x)
    for a, e in zip(fuse_conv_bn(backbone)(x), expected):
        torch.testing.assert_close(a, e, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('options,message', [
    (dict(conv2_cfg=dict(alpha=2)), 'alpha=2 is not valid'),
    (dict(conv2_cfg=dict(type='Conv2d')), "type='Conv2d' is not valid"),
    (dict(stages_with_swap=(True, )), 'stages_with_swap=.* num_stages=4'),
    (dict(
        depth=50,
        dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, False, False, True)),
     'stage_with_dcn=.* both replace conv2 of stage 3'),
])
def test_invalid_options(options, message):
    with pytest.raises(ValueError, match=message):
        SCConvResNet(**dict(dict(depth=18), **options))


def test_swap_resnet_needs_a_type():
    with pytest.raises(ValueError, match='name of a convolution'):
        SwapResNet(18, conv2_cfg=dict(alpha=0.5))
