"""OctResNet: features in two resolutions."""
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdet_scconv.backbones import CIFAROctResNet, OctResNet
from mmdet_scconv.backbones.oct_resnet import OctaveUnit
from mmdet_scconv.errors import FrozenWeightsError


@pytest.mark.parametrize('stride,size', [(1, (8, 6)), (2, (8, 6)),
                                         (2, (7, 5))])
def test_octave_unit_equals_its_definition(stride, size):
    """One dense convolution of the upsampled input, where the filters are
    1x1 and the input has one value for each 2x2 pixels of each stride."""
    torch.manual_seed(0)
    unit = OctaveUnit((4, 2), (6, 3), 1, stride, dict(type='BN')).double()
    unit.eval()
    height, width = (-(-s // stride) for s in size)
    coarse = torch.randn(
        2, 4, -(-height // 2), -(-width // 2), dtype=torch.float64)
    high = F.interpolate(
        coarse, scale_factor=2 * stride)[:, :, :size[0], :size[1]]
    low_size = tuple(-(-s // 2) for s in size)
    low = torch.randn(2, 2, *low_size, dtype=torch.float64)
    pooled_low = F.avg_pool2d(
        low, stride, ceil_mode=True) if stride > 1 else low
    to_high, to_low = unit(high, low)

    def weight(name):
        return getattr(unit, name).weight

    expected_low = F.conv2d(coarse, weight('high_to_low')) + F.conv2d(
        pooled_low, weight('low_to_low'))
    expected_high = F.interpolate(
        F.conv2d(coarse, weight('high_to_high')),
        scale_factor=2)[:, :, :height, :width] + F.interpolate(
            F.conv2d(pooled_low, weight('low_to_high')), (height, width))
    scale = 1 / (1 + unit.norm_high.eps)**0.5
    torch.testing.assert_close(to_low, expected_low * scale)
    torch.testing.assert_close(to_high, expected_high * scale)


def evaluated(size, **options):
    backbone = OctResNet(50, base_channels=16, stem_channels=16, **options)
    backbone.eval()  # not chained: MMDetection's returns None
    return backbone(torch.rand(1, 3, *size))


@pytest.mark.parametrize('size', [(64, 96), (65, 51)])
def test_shapes_are_those_of_resnet(size):
    outs = evaluated(size)
    assert [out.shape[1] for out in outs] == [64, 128, 256, 512]
    assert [out.shape[2:] for out in outs] == [
        (-(-size[0] // s), -(-size[1] // s)) for s in (4, 8, 16, 32)
    ]


def test_the_low_part_is_upsampled_in_the_outputs():
    out = evaluated((64, 64), out_indices=(0, ))[0]
    assert out.shape == (1, 64, 16, 16)
    assert out[:, 32:, ::2, ::2].equal(out[:, 32:, 1::2, 1::2])
    assert not out[:, :32, ::2, ::2].equal(out[:, :32, 1::2, 1::2])


def test_every_parameter_gets_a_gradient():
    backbone = CIFAROctResNet(50, base_channels=16, norm_eval=False)
    backbone.init_weights()
    backbone.train()
    outs = backbone(torch.rand(2, 3, 32, 32))
    assert [tuple(out.shape) for out in outs] == [(2, 512, 4, 4)]
    outs[0].square().sum().backward()
    assert all(p.grad is not None for p in backbone.parameters())


def test_keys_of_the_stem_and_of_the_last_stage_are_resnets():
    keys = set(OctResNet(50).state_dict())
    dense = {
        k: v
        for k, v in CIFAROctResNet(50).state_dict().items()
        if k.startswith(('conv1', 'layer4'))
    }
    assert keys >= set(dense)
    assert 'layer4.0.conv2.weight' in dense
    assert {
        'layer1.0.conv1.high_to_low.weight',
        'layer2.1.conv2.low_to_high.weight',
        'layer3.0.downsample.norm_low.bias'
    } <= keys
    assert 'layer1.0.conv1.low_to_high.weight' not in keys


def test_stages_can_be_frozen():
    backbone = OctResNet(50, frozen_stages=1)
    assert not any(p.requires_grad for p in backbone.layer1.parameters())
    assert all(p.requires_grad for p in backbone.layer2.parameters())


def test_norm_eval():
    backbone = OctResNet(50)
    backbone.train()
    assert not any(m.training for m in backbone.modules()
                   if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize('options,message', [
    (dict(depth=18), 'depth=18'),
    (dict(depth=50, alpha=1), 'alpha=1'),
    (dict(depth=50, alpha=0.001), 'alpha=0.001'),
    (dict(depth=50, style='caffe'), "style='caffe'"),
    (dict(depth=50, with_cp=True), 'with_cp=True'),
])
def test_invalid_options(options, message):
    with pytest.raises(ValueError, match=f'{message} is not valid'):
        OctResNet(**options)


@pytest.mark.parametrize('options', [
    dict(frozen_stages=1, norm_eval=False), dict(norm_eval=True)], ids=str)
def test_random_weights_may_not_be_frozen(options, tmp_path):
    small = dict(depth=50, base_channels=16, stem_channels=16)
    backbone = OctResNet(**small, **options)
    backbone.init_weights()
    with pytest.raises(FrozenWeightsError, match='no checkpoint was loaded'):
        backbone.train()
    torch.save(backbone.state_dict(), tmp_path / 'a.pth')
    filled = OctResNet(**small, **options, init_cfg=dict(
        type='Pretrained', checkpoint=str(tmp_path / 'a.pth')))
    filled.init_weights()
    filled.train()
