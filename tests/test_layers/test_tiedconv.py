"""Tied block convolution against its definition, in float64."""
import pytest
import torch
from reference import (
    assert_equals_definition,
    assert_option_is_named,
    float64_layer,
    ref_conv,
)

from mmdet_scconv.layers import TiedConv


@pytest.mark.parametrize('blocks,stride,dilation', [
    (1, 1, 1),
    (2, 2, 1),
    (4, 1, 2),
])
def test_equals_definition(blocks, stride, dilation):
    layer, x = float64_layer(
        TiedConv, 16, 24, (7, 8), True, blocks=blocks, stride=stride,
        dilation=dilation)
    width = 16 // blocks
    expected = torch.cat([
        ref_conv(x[:, i * width:(i + 1) * width], layer.conv.weight, None,
                 stride, dilation) for i in range(blocks)
    ], 1)
    assert_equals_definition(layer, x, expected, 24, stride)


@pytest.mark.parametrize('name,value,options', [
    ('blocks', 0, dict(blocks=0)),
    ('blocks', 3, dict(blocks=3)),
])
def test_invalid_options(name, value, options):
    assert_option_is_named(TiedConv, name, value, options)
