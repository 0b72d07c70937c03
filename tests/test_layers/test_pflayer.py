"""Max pooling in place of a convolution."""
import pytest
import torch
from reference import assert_option_is_named

from mmdet_scconv.layers import PfLayer


@pytest.mark.parametrize('size', [(7, 8), (5, 1)])
@pytest.mark.parametrize('stride,dilation', [(1, 1), (2, 1), (1, 2)])
def test_equals_definition(size, stride, dilation):
    layer = PfLayer(
        4, 4, 3, stride, padding='same', dilation=dilation, bias=False)
    x = -1 - torch.rand(2, 4, *size)  # a padding of zeros would win
    height, width = size
    expected = torch.stack([
        torch.stack([
            torch.stack([
                x[:, :, i, j] for i in range(y - dilation, y + dilation + 1,
                                             dilation) if 0 <= i < height
                for j in range(z - dilation, z + dilation + 1, dilation)
                if 0 <= j < width
            ]).amax(0) for z in range(0, width, stride)
        ], -1) for y in range(0, height, stride)
    ], 2)
    assert layer(x).equal(expected)


def test_has_no_parameters():
    assert not list(PfLayer(4, 4, 3, padding=1, bias=False).parameters())


def test_invalid_options():
    assert_option_is_named(PfLayer, 'out_channels', 15, dict(out_channels=15))
