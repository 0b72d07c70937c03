"""Redundancy of maps that are known by construction."""
import numpy as np
import pytest
import torch
from mmdet.models.backbones import ResNet
from torch import nn

from mmdet_scconv.backbones import SCConvResNet
from mmdet_scconv.visualization.models import Picture
from mmdet_scconv.visualization.redundancy import (
    ChannelCovariance,
    effective_rank,
    mean_abs_correlation,
    measure,
    redundancy,
    redundancy_figure,
)


def covariance_of(maps):
    covariance = ChannelCovariance()
    covariance.add(maps)
    return covariance.value()


def orthogonal_maps(channels):
    """Rows of a Hadamard matrix: no mean, no correlation, one variance."""
    hadamard = torch.ones(1, 1)
    while len(hadamard) <= channels:
        hadamard = torch.cat([
            torch.cat([hadamard, hadamard], 1),
            torch.cat([hadamard, -hadamard], 1)
        ])
    return hadamard[1:channels + 1].view(1, channels, -1, 4)


def test_multiples_of_one_channel_are_all_redundant():
    one = torch.rand(2, 1, 5, 6, generator=torch.Generator().manual_seed(0),
                     dtype=torch.float64)
    factors = torch.tensor([1., -3., 0.5, 7.]).view(1, 4, 1, 1)
    covariance = covariance_of(factors * one + 100)
    assert effective_rank(covariance) == pytest.approx(1)
    assert redundancy(covariance) == pytest.approx(1)
    assert mean_abs_correlation(covariance) == pytest.approx(1)


def test_orthogonal_channels_are_not_redundant():
    covariance = covariance_of(orthogonal_maps(7))
    assert effective_rank(covariance) == pytest.approx(7)
    assert redundancy(covariance) == pytest.approx(0, abs=1e-9)
    assert mean_abs_correlation(covariance) == pytest.approx(0, abs=1e-9)


def test_effective_rank_by_its_definition():
    """Roy and Vetterli: exp of the entropy of the singular values' shares."""
    x = torch.rand(6, 40, generator=torch.Generator().manual_seed(0),
                   dtype=torch.float64)
    centred = x - x.mean(1, keepdim=True)
    shares = torch.linalg.svdvals(centred)
    shares /= shares.sum()
    expected = torch.exp(-(shares * shares.log()).sum())
    assert effective_rank(covariance_of(x.view(1, 6, 8, 5))) == pytest.approx(
        float(expected))


def test_correlation_by_torch():
    x = torch.rand(5, 60, generator=torch.Generator().manual_seed(0))
    corrcoef = torch.corrcoef(x.double()).abs()
    expected = (corrcoef.sum() - 5) / 20
    assert mean_abs_correlation(covariance_of(
        x.view(1, 5, 6, 10))) == pytest.approx(float(expected))


def test_covariance_in_parts():
    x = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    parts = ChannelCovariance()
    for part in x.split([1, 3]):
        parts.add(part)
    expected = torch.cov(
        x.double().transpose(0, 1).flatten(1), correction=0)
    torch.testing.assert_close(parts.value(), expected)
    assert parts.count == 100


def test_constant_channels():
    """They say nothing: redundant, but without a correlation."""
    maps = orthogonal_maps(3)
    maps[:, 0] = 5.
    covariance = covariance_of(maps)
    assert effective_rank(covariance) == pytest.approx(2)
    assert mean_abs_correlation(covariance) == pytest.approx(0, abs=1e-9)
    assert redundancy(covariance_of(torch.ones(1, 4, 3, 3))) == 1


class Detector(nn.Module):

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone


# 60 x 50 pixels, padded
PICTURES = [
    Picture('a.jpg', np.zeros((60, 50, 3), np.uint8),
            torch.rand(1, 3, 64, 64,
                       generator=torch.Generator().manual_seed(0)))
]


def test_layers_of_backbones():
    results = []
    for name, backbone in (('dense', ResNet(18, base_channels=16)),
                           ('scconv', SCConvResNet(18, base_channels=16))):
        results += measure(name, Detector(backbone).eval(), PICTURES)
    assert [r.layer for r in results[:3]] == [
        'layer1.0.conv2', 'layer1.1.conv2', 'layer2.0.conv2'
    ]
    assert len(results) == 16
    for result in results:
        assert 0 <= result.redundancy <= 1 and 0 <= result.correlation <= 1
    assert results[0].channels == 16 and results[0].positions == 15 * 13
    top, bottom = redundancy_figure(results).axes
    assert [line.get_label() for line in top.lines] == ['dense', 'scconv']
    assert len(bottom.get_xticklabels()) == 8


def test_backbone_that_is_not_a_resnet():
    with pytest.raises(ValueError, match="backbone type='Linear'"):
        measure('x', Detector(nn.Linear(1, 1)), PICTURES)
