import pytest
import torch
from torch import nn

from mmdet_scconv.layers import GhostConv, OctConv, SCConv, SlimConv, TiedConv
from mmdet_scconv.warm_start.layers import Target, fit_layer


def images(count):
    torch.manual_seed(count)
    x = torch.randn(count, 16, 14, 14)
    return nn.functional.avg_pool2d(x, 3, 1, 1).relu() * 3


@pytest.mark.parametrize('layer', [
    lambda: SlimConv(16, 16, 3, padding=1, k='1'),
    lambda: GhostConv(16, 16, 3, padding=1),
    lambda: TiedConv(16, 16, 3, padding=1),
    lambda: OctConv(16, 16, 3, padding=1),
    lambda: SCConv(16, 16, 3, padding=1, units='S'),
    lambda: nn.Sequential(nn.Conv2d(16, 16, 1), nn.ReLU(),
                          nn.Conv2d(16, 16, 3, padding=1)),
], ids=['SlimConv', 'GhostConv', 'TiedConv', 'OctConv', 'S', 'other'])
def test_regression_explains_a_part(layer):
    """On images that it was not fitted to; the report says how much."""
    torch.manual_seed(0)
    dense = nn.Conv2d(16, 16, 3, padding=1).requires_grad_(False)
    layer = layer().eval()
    x, others = images(24), images(7)
    scale = torch.ones(16).double()
    with torch.no_grad():
        reported = fit_layer(layer, x, Target(dense(x), None, scale, 196),
                             18, seed=0)
        target = dense(others)
        error = (layer(others) - target).square().mean((0, 2, 3)).sum()
        found = error / target.var((0, 2, 3)).sum()
    assert found < 0.75
    assert reported == pytest.approx(float(found), abs=0.1)
    assert not any(m.training for m in layer.modules())
