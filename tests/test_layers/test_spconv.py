"""SPConv against its definition, written out here in float64."""
import pytest
from reference import (
    assert_equals_definition,
    assert_option_is_named,
    float64_layer,
    ref_bn,
    ref_conv,
    ref_fuse,
    ref_pool,
)

from mmdet_scconv.layers import SPConv


def ref_spconv(x, layer, alpha, stride, dilation, gwc_groups):
    split = round(alpha * x.shape[1])
    big, small = x[:, :split], x[:, split:]
    y1 = ref_bn(
        ref_conv(big, layer.gwc.weight, None, stride, dilation, gwc_groups) +
        ref_conv(ref_pool(big, stride), layer.pwc.weight), layer.bn1)
    y2 = ref_bn(
        ref_conv(
            ref_pool(small, stride), layer.conv1x1.weight,
            layer.conv1x1.bias), layer.bn2)
    return ref_fuse(y1, y2)


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('in_channels,out_channels,options', [
    (16, 16, {}),
    (16, 24, dict(stride=2, alpha=0.75)),
    (24, 16, dict(dilation=2, alpha=0.25, gwc_groups=1)),
])
@pytest.mark.parametrize('size', [(8, 8), (7, 9)])
def test_equals_definition(in_channels, out_channels, options, training, size):
    options = dict(
        dict(alpha=0.5, stride=1, dilation=1, gwc_groups=2), **options)
    layer, x = float64_layer(SPConv, in_channels, out_channels, size,
                             training, **options)
    expected = ref_spconv(x, layer, **options)
    assert_equals_definition(layer, x, expected, out_channels,
                             options['stride'])


@pytest.mark.parametrize('name,value,options', [
    ('alpha', 1, dict(alpha=1)),
    ('alpha', 0.001, dict(alpha=0.001)),
    ('gwc_groups', 3, dict(gwc_groups=3)),
    ('groups', 2, dict(groups=2)),
    ('padding', 0, dict(padding=0)),
    ('in_channels', 1, dict(in_channels=1)),
])
def test_invalid_options(name, value, options):
    assert_option_is_named(SPConv, name, value, options)
