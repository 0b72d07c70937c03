"""SlimConv against its definition, written out here in float64."""
import pytest
import torch
from reference import (
    assert_equals_definition,
    assert_option_is_named,
    float64_layer,
    ref_bn,
    ref_conv,
)

from mmdet_scconv.layers import SlimConv


def ref_slimconv(x, layer, parts, stride, dilation):
    _, conv1, bn, _, conv2, _ = layer.attention
    hidden = ref_bn(ref_conv(x.mean((2, 3), keepdim=True), conv1.weight), bn)
    w = 1 / (1 + torch.exp(
        -ref_conv(hidden.clamp(min=0), conv2.weight, conv2.bias)))
    width = x.shape[1] // parts
    mirrored = w[:, list(range(x.shape[1]))[::-1]]
    top, bottom = (
        sum((weights * x)[:, i * width:(i + 1) * width] for i in range(parts))
        for weights in (w, mirrored))
    squeeze, squeeze_bn, _, conv, conv_bn = layer.bottom
    bottom = ref_bn(ref_conv(bottom, squeeze.weight), squeeze_bn)
    return torch.cat([
        ref_bn(
            ref_conv(top, layer.top[0].weight, None, stride, dilation),
            layer.top[1]),
        ref_bn(
            ref_conv(
                bottom.clamp(min=0), conv.weight, None, stride, dilation),
            conv_bn)
    ], 1)


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('k,parts,out_channels', [
    ('1', 2, 64),
    ('4/3', 2, 48),
    ('8/3', 4, 24),
])
@pytest.mark.parametrize('stride,dilation', [(1, 1), (2, 1), (1, 2)])
def test_equals_definition(k, parts, out_channels, stride, dilation, training):
    layer, x = float64_layer(
        SlimConv, 64, 64, (7, 8), training, k=k, stride=stride,
        dilation=dilation)
    assert layer.out_channels == out_channels
    assert_equals_definition(
        layer, x, ref_slimconv(x, layer, parts, stride, dilation),
        out_channels, stride)


@pytest.mark.parametrize('k,parts,out_channels', [
    ('1', 2, 32),
    ('4/3', 2, 24),
    ('8/3', 4, 12),
])
def test_another_output_width(k, parts, out_channels):
    layer, x = float64_layer(SlimConv, 64, 32, (7, 8), True, k=k)
    assert layer.out_channels == out_channels
    assert_equals_definition(layer, x, ref_slimconv(x, layer, parts, 1, 1),
                             out_channels, 1)


@pytest.mark.parametrize('k,reduction', [('1', 16), ('4/3', 32), ('8/3', 32)])
def test_reduction_of_the_attention(k, reduction):
    assert SlimConv(
        64, 64, 3, padding=1, k=k).attention[1].out_channels == 64 // reduction


def test_trains_on_a_single_image():
    """As the last, incomplete batch of an epoch."""
    layer, x = float64_layer(SlimConv, 64, 64, (7, 8), True)
    norm = layer.attention[2]
    statistics = norm.running_mean.clone()
    out = layer(x[:1])
    assert out.isfinite().all()
    assert norm.training and norm.running_mean.equal(statistics)
    layer(x)
    assert not norm.running_mean.equal(statistics)


def test_forward_leaves_the_mode_of_its_norms(monkeypatch):
    """A toggled mode is seen by other threads, and breaks a compiled graph."""
    layer, x = float64_layer(SlimConv, 64, 64, (7, 8), True)
    modes = []
    monkeypatch.setattr(torch.nn.Module, 'train',
                        lambda module, mode=True: modes.append(mode))
    layer(x[:1])
    assert not modes


@pytest.mark.parametrize('name,value,options', [
    ('k', '2', dict(k='2')),
    ('in_channels', 30, dict(in_channels=30, out_channels=30)),
    ('out_channels', 18, dict(out_channels=18)),
])
def test_invalid_options(name, value, options):
    assert_option_is_named(SlimConv, name, value, options)
