import pytest
import torch
from mmcv.cnn.utils import fuse_conv_bn
from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS
from torch import nn

from mmdet_scconv.backbones import SCConvResNet, SlimConvResNet, SwapResNet
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
    with torch.device('meta'):
        backbone = SCConvResNet(depth, conv2_cfg=conv2_cfg)
    assert millions_with_fc(backbone, group_norm=False) == without
    assert millions_with_fc(backbone) == with_group_norm


@pytest.mark.parametrize('name,conv2_cfg,expected', [
    ('SPConvResNet', {}, 18.345),
    ('SPConvResNet', dict(alpha=0.75), 19.760),
    ('SlimConvResNet', {}, 16.759),
    ('SlimConvResNet', dict(k='8/3'), 12.098),
    ('SlimConvResNet', dict(k='1'), 18.804),
    ('GhostResNet', {}, 13.954),
    ('TiedConvResNet', {}, 17.069),
    ('OctConvResNet', {}, 25.557),
])
def test_parameters_of_the_peers(name, conv2_cfg, expected):
    with torch.device('meta'):
        backbone = MODELS.build(dict(type=name, depth=50, conv2_cfg=conv2_cfg))
    assert millions_with_fc(backbone) == expected


@pytest.mark.parametrize('depth,expected', [(50, 25.557), (101, 44.549)])
def test_parameters_of_the_dense_baseline(depth, expected):
    with torch.device('meta'):
        backbone = SwapResNet(depth, SCCONV, stages_with_swap=(False, ) * 4)
    assert millions_with_fc(backbone) == expected


@pytest.mark.parametrize('name,depth', [
    *(('SCConvResNet', depth) for depth in (18, 34, 50, 101, 152)),
    *((name, depth) for name in ('SPConvResNet', 'GhostResNet',
                                 'TiedConvResNet', 'OctConvResNet')
      for depth in (18, 50)),
    ('SlimConvResNet', 50),
])
def test_build_forward_backward(name, depth):
    """All outputs as the dense ResNet's, every parameter gets a gradient."""
    backbone = MODELS.build(dict(type=name, depth=depth, norm_eval=False))
    backbone.init_weights()
    backbone.train()
    outs = backbone(torch.randn(2, 3, 64, 64))
    with torch.device('meta'):
        dense = ResNet(depth)
        expected = dense(torch.empty(2, 3, 64, 64))
    assert [o.shape for o in outs] == [o.shape for o in expected]
    sum(o.mean() for o in outs).backward()
    for parameter_name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, parameter_name
    swapped = [
        m for m in backbone.modules()
        if type(m).__name__ == backbone.conv2_cfg['type']
    ]
    if name == 'GhostResNet':  # all but the stem
        dense_convs = [m for m in dense.modules() if isinstance(m, nn.Conv2d)]
        assert len(swapped) == len(dense_convs) - 1
    else:
        assert len(swapped) == sum(backbone.stage_blocks)


@pytest.mark.parametrize('k,width', [('1', 64), ('4/3', 48), ('8/3', 24)])
def test_conv3_takes_the_width_of_slimconv(k, width):
    block = SlimConvResNet(50, conv2_cfg=dict(k=k)).layer1[0]
    assert block.conv3.in_channels == width
    # SlimConv ends with norms of its own
    assert isinstance(block.norm2, nn.Identity)


@pytest.mark.parametrize('options', [
    dict(depth=18),
    dict(depth=50, plugins=[
        dict(cfg=dict(type='ContextBlock', ratio=1 / 4),
             position='after_conv2')]),
])
def test_width_that_a_block_cannot_take(options):
    with pytest.raises(ValueError, match='gives 48 output channels, conv2 of'):
        SlimConvResNet(**options)


@pytest.mark.parametrize('avg_down', [False, True])
def test_ghost_modules_follow_the_relu_of_the_block(avg_down):
    block = MODELS.build(
        dict(type='GhostResNet', depth=50, avg_down=avg_down)).layer2[0]
    assert isinstance(block.conv1.act, nn.ReLU)
    assert isinstance(block.conv2.act, nn.ReLU)
    assert isinstance(block.conv3.act, nn.Identity)
    assert isinstance(block.downsample[-2].act, nn.Identity)
    assert isinstance(block.downsample[-1], nn.Identity)


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


def test_group_norm_inside_fits_narrow_widths():
    """MMDetection's ``gn`` configs have 32 groups; stage 1 squeezes to 16."""
    backbone = SCConvResNet(50, norm_cfg=dict(type='GN', num_groups=32))
    cru = backbone.layer1[0].conv2.cru
    assert cru.squeeze_up_bn.num_groups == 16
    assert cru.bn1.num_groups == 32


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


@pytest.mark.parametrize('name,options', [
    ('SCConvResNet', dict(depth=18)),
    ('SCConvResNet', dict(depth=50, conv2_cfg=dict(alpha=0.75))),
    ('SCConvResNet', dict(depth=50, conv2_cfg=dict(units='C'))),
    ('SCConvResNet', dict(depth=50, stages_with_swap=(False, True) * 2)),
    ('SCConvResNet', dict(depth=50, style='caffe', avg_down=True)),
    ('SlimConvResNet', dict(depth=50)),
    ('GhostResNet', dict(depth=18)),
], ids=str)
def test_deployed_equals(name, options):
    """In float64; a second call changes nothing."""
    torch.manual_seed(0)
    backbone = MODELS.build(dict(type=name, base_channels=32, **options))
    backbone.double().train()
    for module in backbone.modules():  # BatchNorms with statistics
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    x = torch.randn(2, 3, 70, 90, dtype=torch.float64)
    backbone(x)
    expected = backbone.eval()(x)
    for _ in range(2):
        assert backbone.switch_to_deploy() is backbone
        for a, e in zip(backbone(x), expected):
            torch.testing.assert_close(a, e, rtol=1e-9, atol=1e-9)


def test_deployed_has_no_batch_norm():
    backbone = SCConvResNet(50).switch_to_deploy()
    assert not [m for m in backbone.modules()
                if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def test_deploy_leaves_other_norms():
    backbone = SCConvResNet(
        18, norm_cfg=dict(type='GN', num_groups=4)).eval()
    x = torch.randn(1, 3, 64, 64)
    expected = backbone(x)
    for a, e in zip(backbone.switch_to_deploy()(x), expected):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize('conv_cfg', [
    dict(type='ConvAWS'), dict(type='ConvWS')], ids=str)
def test_deploy_leaves_convolutions_that_change_their_weight(conv_cfg):
    """Folded into it, a BatchNorm's scale would be standardised away."""
    torch.manual_seed(0)
    backbone = SCConvResNet(18, base_channels=32, norm_eval=False,
                            frozen_stages=-1, conv_cfg=conv_cfg).train()
    x = torch.randn(4, 3, 64, 64)
    backbone(x)
    expected = backbone.eval()(x)
    for a, e in zip(backbone.switch_to_deploy()(x), expected):
        torch.testing.assert_close(
            a, e, rtol=1e-4, atol=1e-4 * float(e.abs().max()))


@MODELS.register_module(name='ConvOfADetector')
class ConvWithNorm(nn.Conv2d):
    """Registered in mmdet's scope, as a user of MMDetection does."""

    has_inner_norms = True

    def __init__(self, *args, norm_layer=nn.BatchNorm2d, **kwargs):
        super().__init__(*args, **kwargs)
        self.inner = norm_layer(self.out_channels)


def test_norm_cfg_reaches_a_convolution_of_mmdet_s_registry():
    backbone = SwapResNet(
        18, dict(type='ConvOfADetector'), norm_cfg=dict(type='GN',
                                                        num_groups=8))
    inner = backbone.layer1[0].conv2.inner
    assert isinstance(inner, nn.GroupNorm) and inner.num_groups == 8
