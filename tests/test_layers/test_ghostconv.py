"""The Ghost module against its definition, written out here in float64."""
import pytest
import torch
from reference import (
    assert_equals_definition,
    assert_option_is_named,
    float64_layer,
    ref_bn,
    ref_conv,
)

from mmdet_scconv.layers import GhostConv


@pytest.mark.parametrize('relu', [False, True])
@pytest.mark.parametrize('out_channels,options', [
    (16, {}),
    (24, dict(ratio=3, stride=2)),
    (16, dict(kernel_size=1, dw_size=5)),
])
def test_equals_definition(out_channels, options, relu):
    layer, x = float64_layer(
        GhostConv, 16, out_channels, (7, 8), True, relu=relu, **options)
    stride = options.get('stride', 1)
    primary = ref_bn(
        ref_conv(x, layer.primary[0].weight, stride=stride), layer.primary[1])
    source = primary.clamp(min=0) if relu else primary
    ghosts = ref_bn(
        ref_conv(
            source, layer.cheap[0].weight, groups=primary.shape[1]),
        layer.cheap[1])
    assert_equals_definition(layer, x, torch.cat([primary, ghosts], 1),
                             out_channels, stride)


@pytest.mark.parametrize('name,value,options', [
    ('ratio', 1, dict(ratio=1)),
    ('ratio', 5, dict(ratio=5)),
    ('dw_size', 2, dict(dw_size=2)),
    ('relu', 'no', dict(relu='no')),
])
def test_invalid_options(name, value, options):
    assert_option_is_named(GhostConv, name, value, options)
