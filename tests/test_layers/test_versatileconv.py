"""Versatile filters against their definition, in float64."""
import pytest
import torch
from reference import (
    assert_equals_definition,
    assert_option_is_named,
    float64_layer,
    ref_conv,
)

from mmdet_scconv.layers import VersatileConv


@pytest.mark.parametrize('kernel,out_channels', [(1, 16), (3, 16), (5, 24)])
@pytest.mark.parametrize('stride,dilation', [(1, 1), (2, 1), (1, 2)])
def test_equals_definition(kernel, out_channels, stride, dilation):
    layer, x = float64_layer(
        VersatileConv, 8, out_channels, (7, 8), True, kernel_size=kernel,
        stride=stride, dilation=dilation)
    sizes = range(kernel, 0, -2)
    assert layer.weight.shape == (out_channels // len(sizes), 8, kernel,
                                  kernel)
    expected = []
    for size in sizes:
        border = (kernel - size) // 2
        crop = layer.weight[:, :, border:border + size, border:border + size]
        expected.append(ref_conv(x, crop, None, stride, dilation))
    assert_equals_definition(layer, x, torch.cat(expected, 1), out_channels,
                             stride)


def test_invalid_options():
    assert_option_is_named(VersatileConv, 'out_channels', 15,
                           dict(out_channels=15))
