"""Octave convolution against its definition, in float64."""
import pytest
import torch
from reference import (
    assert_equals_definition,
    assert_option_is_named,
    float64_layer,
    ref_conv,
    ref_pool,
    ref_upsample,
)

from mmdet_scconv.layers import OctConv


@pytest.mark.parametrize('size', [(8, 8), (7, 9)])
@pytest.mark.parametrize('alpha,low_in,stride,dilation', [
    (0.5, 8, 1, 1),
    (0.25, 4, 2, 1),
    (0.75, 12, 1, 2),
])
def test_equals_definition(alpha, low_in, stride, dilation, size):
    layer, x = float64_layer(
        OctConv, 16, 24, size, True, alpha=alpha, stride=stride,
        dilation=dilation)
    pooled = ref_pool(x, stride)
    high = pooled[:, :-low_in]
    low = ref_pool(pooled[:, -low_in:], 2)

    def conv(part, name):
        return ref_conv(part, getattr(layer, name).weight, dilation=dilation)

    to_low = conv(ref_pool(high, 2), 'high_to_low') + conv(low, 'low_to_low')
    to_high = conv(high, 'high_to_high') + ref_upsample(
        conv(low, 'low_to_high'), high.shape[2:])
    expected = torch.cat([to_high, ref_upsample(to_low, high.shape[2:])], 1)
    assert_equals_definition(layer, x, expected, 24, stride)


@pytest.mark.parametrize('name,value,options', [
    ('alpha', 0, dict(alpha=0)),
    ('alpha', 0.01, dict(alpha=0.01)),
])
def test_invalid_options(name, value, options):
    assert_option_is_named(OctConv, name, value, options)
