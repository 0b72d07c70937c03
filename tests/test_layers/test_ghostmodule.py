"""The Ghost module with a 1x1 primary convolution, in float64."""
import pytest
import torch
from reference import (
    assert_equals_definition,
    assert_option_is_named,
    float64_layer,
    ref_bn,
    ref_conv,
)

from mmdet_scconv.layers import GhostModule


@pytest.mark.parametrize('out_channels,options', [
    (16, {}),
    (24, dict(ratio=3, stride=2)),
    (16, dict(dilation=2)),
])
def test_equals_definition(out_channels, options):
    layer, x = float64_layer(
        GhostModule, 16, out_channels, (7, 8), True, **options)
    stride = options.get('stride', 1)
    primary = ref_bn(
        ref_conv(x, layer.primary[0].weight, stride=stride),
        layer.primary[1]).clamp(min=0)
    ghosts = ref_bn(
        ref_conv(
            primary,
            layer.cheap[0].weight,
            dilation=options.get('dilation', 1),
            groups=primary.shape[1]), layer.cheap[1]).clamp(min=0)
    assert_equals_definition(layer, x, torch.cat([primary, ghosts], 1),
                             out_channels, stride)


@pytest.mark.parametrize('name,value,options', [
    ('ratio', 1, dict(ratio=1)),
    ('ratio', 5, dict(ratio=5)),
])
def test_invalid_options(name, value, options):
    assert_option_is_named(GhostModule, name, value, options)
