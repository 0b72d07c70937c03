"""The networks of Table 2 other than ResNet, with any convolution."""
import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

from mmdet_scconv.backbones import (
    CIFARDenseNet,
    CIFARResNeXt,
    CIFARWideResNet,
)
from mmdet_scconv.layers import SCConv, SlimConv

SCCONV = dict(type='SCConv', gn_groups=4)
# small forms, with the shape of their output and the replaced convolutions
WIDE = dict(type='CIFARWideResNet', depth=10, widen_factor=1)
DENSE = dict(type='CIFARDenseNet', growth_rate=4)
NEXT = dict(
    type='CIFARResNeXt', base_channels=16, base_width=16, norm_eval=False)


def build(cfg, **options):
    return MODELS.build({**cfg, **options})


@pytest.mark.parametrize('conv2_cfg', [None, SCCONV])
@pytest.mark.parametrize('cfg,shape,convs', [
    (WIDE, (64, 8, 8), 3),
    (DENSE, (128, 4, 4), 58),
    (NEXT, (256, 8, 8), 9),
], ids=['wide', 'dense', 'next'])
def test_trains(cfg, shape, convs, conv2_cfg):
    backbone = build(cfg, conv2_cfg=conv2_cfg)
    backbone.init_weights()
    backbone.train()
    outs = backbone(torch.rand(2, 3, 32, 32))
    assert [tuple(out.shape) for out in outs] == [(2, *shape)]
    assert backbone.feat_dim == shape[0]
    outs[0].square().sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad.isfinite().all(), name
    assert sum(
        isinstance(m, SCConv)
        for m in backbone.modules()) == (convs if conv2_cfg else 0)


@pytest.mark.parametrize('cfg', [WIDE, DENSE, NEXT],
                         ids=['wide', 'dense', 'next'])
def test_only_keys_of_conv2_change(cfg):
    keys, swapped = ([
        k for k in build(cfg, conv2_cfg=conv2_cfg).state_dict()
        if '.conv2.' not in k
    ] for conv2_cfg in (None, SCCONV))
    assert keys == swapped


@pytest.mark.parametrize('backbone,keys', [
    (WIDE, {
        'stem.weight', 'layer1.0.norm1.weight', 'layer1.0.conv2.bias',
        'layer2.0.shortcut.weight', 'norm.running_var'
    }),
    (DENSE, {
        'stem.weight', 'block1.5.conv2.weight', 'block2.0.weight',
        'block2.2.weight', 'block2.4.conv1.weight', 'norm.running_var'
    }),
    (NEXT, {
        'conv1.weight', 'layer1.0.conv2.weight', 'layer3.2.bn3.running_var'
    }),
], ids=['wide', 'dense', 'next'])
def test_keys(backbone, keys):
    assert keys <= set(build(backbone).state_dict())


def test_wide_resnets_stride_is_that_of_conv2():
    block = CIFARWideResNet(10, 1, SCCONV).layer2[0]
    assert block.conv1.stride == (1, 1)
    assert block.conv2.stride == block.shortcut.stride == (2, 2)


def test_dense_layers_add_what_the_convolution_gives():
    backbone = CIFARDenseNet(121, 8, dict(type='SlimConv', k='1'))
    layer = backbone.block1[0]
    assert isinstance(layer.conv2, SlimConv)
    assert (layer.conv2.in_channels, layer.conv2.out_channels) == (32, 8)
    narrower = CIFARDenseNet(121, 8, dict(type='SlimConv', k='4/3'))
    assert narrower.feat_dim < backbone.feat_dim


def test_the_cardinality_is_the_dense_convolutions():
    assert CIFARResNeXt().layer1[0].conv2.groups == 5
    for m in CIFARResNeXt(conv2_cfg=dict(type='SPConv')).modules():
        if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3):
            assert m.groups in (1, 2)


@pytest.mark.parametrize('cfg,message', [
    (dict(type='CIFARWideResNet', depth=27), 'depth=27 is not valid'),
    (dict(type='CIFARWideResNet', widen_factor=0), 'widen_factor=0'),
    (dict(WIDE, conv2_cfg=dict(type='SlimConv')), 'conv2_cfg='),
    (dict(type='CIFARDenseNet', depth=50), 'depth=50 is not valid'),
    (dict(type='CIFARDenseNet', growth_rate=0), 'growth_rate=0'),
])
def test_invalid_options(cfg, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(cfg)
