"""SCConvResNeXt, and which of MMDetection's backbones can be swapped."""
import pytest
import torch
from mmdet.models.backbones import ResNetV1d, ResNeXt
from mmdet.registry import MODELS
from torch import nn

from mmdet_scconv.backbones import SCConvResNet, SCConvResNeXt, SwapResNet
from mmdet_scconv.layers import SCConv

X32X4D = dict(depth=50, groups=32, base_width=4)


def blocks(backbone):
    return [
        block for name in backbone.res_layers
        for block in getattr(backbone, name)
    ]


@pytest.mark.parametrize('build,expected', [
    (lambda: ResNeXt(**X32X4D), 25.029),
    (lambda: SCConvResNeXt(**X32X4D), 28.435),
    (lambda: SCConvResNeXt(**X32X4D, conv2_cfg=dict(gwc_groups=2)), 33.740),
])
def test_parameters(build, expected):
    """With a 1000-class fc: SCConv costs more than a grouped 3x3."""
    with torch.device('meta'):
        backbone = build()
    count = sum(p.numel() for p in backbone.parameters())
    count += (backbone.feat_dim + 1) * 1000
    assert round(count / 1e6, 3) == expected


def test_build_forward_backward():
    backbone = MODELS.build(
        dict(type='SCConvResNeXt', norm_eval=False, **X32X4D))
    backbone.init_weights()
    backbone.train()
    outs = backbone(torch.randn(2, 3, 64, 64))
    assert [tuple(o.shape) for o in outs] == [
        (2, 256, 16, 16), (2, 512, 8, 8), (2, 1024, 4, 4), (2, 2048, 2, 2)
    ]
    sum(o.mean() for o in outs).backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name


@pytest.mark.parametrize('style', ['pytorch', 'caffe'])
def test_conv2_has_the_width_stride_and_groups_of_the_resnext(style):
    backbone = SCConvResNeXt(style=style, **X32X4D)
    dense = ResNeXt(style=style, **X32X4D)
    for ours, theirs in zip(blocks(backbone), blocks(dense)):
        assert isinstance(ours.conv2, SCConv)
        assert ours.conv2.in_channels == theirs.conv2.in_channels
        assert ours.conv2.out_channels == theirs.conv2.out_channels
        assert ours.conv2.stride == theirs.conv2.stride
        assert ours.conv2.cru.gwc.groups == theirs.conv2.groups == 32


def test_given_gwc_groups_come_first():
    backbone = SCConvResNeXt(conv2_cfg=dict(gwc_groups=8), **X32X4D)
    assert {block.conv2.cru.gwc.groups for block in blocks(backbone)} == {8}


def test_one_group_is_a_resnet():
    ours = SCConvResNeXt(depth=50).state_dict()
    resnet = SCConvResNet(50).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {
        k: v.shape for k, v in resnet.items()
    }


def test_unswapped_keys_are_mmdet_resnexts():
    dense = ResNeXt(**X32X4D).state_dict()
    ours = SCConvResNeXt(**X32X4D).state_dict()
    assert {k: v.shape for k, v in dense.items() if '.conv2.' not in k} == {
        k: v.shape for k, v in ours.items() if '.conv2.' not in k
    }


def test_stages_with_swap():
    backbone = SCConvResNeXt(
        stages_with_swap=(False, True, True, True), **X32X4D)
    assert isinstance(backbone.layer1[0].conv2, nn.Conv2d)
    assert isinstance(backbone.layer2[0].conv2, SCConv)


@pytest.mark.parametrize('conv2_cfg,message', [
    # of stage 1's 256 channels 192 go up, squeezed to 48
    (dict(alpha=0.75), r'gwc_groups=32 is not valid: .* divides the 48'),
    (dict(units='S'), "gwc_groups=32 is not valid: units='S' has no CRU"),
    (dict(groups=32), 'groups=32 is not valid: SCConv replaces a dense'),
])
def test_invalid_options(conv2_cfg, message):
    with pytest.raises(ValueError, match=message):
        SCConvResNeXt(conv2_cfg=conv2_cfg, **X32X4D)


def test_resnet_v1d_is_two_options():
    dense = ResNetV1d(depth=50).state_dict()
    ours = SCConvResNet(50, deep_stem=True, avg_down=True).state_dict()
    assert {k: v.shape for k, v in dense.items() if '.conv2.' not in k} == {
        k: v.shape for k, v in ours.items() if '.conv2.' not in k
    }


@pytest.mark.parametrize('backbone_type,name,options', [
    (SCConvResNet, 'groups', dict(groups=32, base_width=4)),  # ResNeXt
    (SCConvResNet, 'scales', dict(scales=4, base_width=26)),  # Res2Net
    (SCConvResNeXt, 'scales', dict(scales=4, base_width=26)),
    (SCConvResNeXt, 'radix', dict(radix=2, reduction_factor=4)),  # ResNeSt
    (SCConvResNet, 'num_branch', dict(num_branch=3)),  # TridentResNet
    (SCConvResNet, 'output_img', dict(output_img=True)),  # DetectoRS_ResNet
])
def test_arguments_of_other_backbones(backbone_type, name, options):
    """As in a config in which only the type is changed."""
    with pytest.raises(ValueError) as error:
        backbone_type(depth=50, **options)
    assert str(error.value).startswith(
        f'{name}={options[name]!r} is not an argument of '
        f'{backbone_type.__name__}: ')
    assert 'SCConvResNeXt' in str(error.value)


def test_own_arguments_of_a_subclass():

    class Mine(SwapResNet):
        conv2_type = 'SCConv'

        def __init__(self, depth, mine, **kwargs):
            super().__init__(depth, **kwargs)

    Mine(18, mine=1, with_cp=True)
