import pytest
import torch
from torch import nn

from mmdet_scconv.layers import SCConv
from mmdet_scconv.warm_start.fit import (
    FitError,
    LinearCRU,
    Moments,
    check_fits,
    fit,
)

CHANNELS = 16


class Half(nn.Module):
    """The fuse with fixed weights."""

    def forward(self, y1, y2):
        return (y1 + y2) / 2


def images(seed, channels=CHANNELS, count=6):
    """Smooth correlated maps behind a ReLU, as conv2 gets them."""
    torch.manual_seed(seed)
    x = torch.randn(count, channels // 2, 14, 14)
    x = nn.functional.avg_pool2d(x, 3, 1, 1) * 3
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(channels, channels // 2, 1, 1, generator=generator)
    x = nn.functional.conv2d(x, mix) + 0.3 * torch.randn(
        count, channels, 14, 14)
    return x.relu()


def case(stride=1, scale=None, units='S+C', **options):
    """An SCConv, the dense convolution to replace, moments and held out."""
    torch.manual_seed(0)
    if units == 'S+C':
        options['gn_groups'] = 4
    dense = nn.Conv2d(CHANNELS, CHANNELS, 3, stride, 1, bias=False)
    conv = SCConv(CHANNELS, CHANNELS, 3, stride, 1, units=units,
                  **options).eval()
    nn.init.normal_(conv.bias)
    moments = []
    for seed in (1, 2):
        moments.append(Moments(conv, scale))
        x = images(seed)
        moments[-1].update(x, dense(x))
    return conv, dense, moments


def numerical_optimum(moments):
    """The least error that L-BFGS finds for weights of this structure."""
    central = moments.central()
    layout = central.layout
    mask = layout.mask()
    torch.manual_seed(0)
    weights = [
        (0.2 * torch.randn(shape, dtype=torch.float64)).requires_grad_()
        for shape in ((layout.squeezed, layout.up), mask.shape,
                      (layout.outputs - layout.squeezed_low,
                       layout.squeezed_low),
                      (layout.squeezed_low, layout.low))
    ]

    def missed():
        squeeze, taps, pwc2, low = weights
        low = torch.cat([pwc2 @ low, low])
        matrix = LinearCRU(squeeze, taps * mask, low).matrix()
        explained = 2 * (matrix.T * central.zt).sum() - (
            (matrix @ central.zz) * matrix).sum()
        return 1 - explained / central.variance.sum()

    optimiser = torch.optim.LBFGS(
        weights, max_iter=150, line_search_fn='strong_wolfe')

    def closure():
        optimiser.zero_grad()
        loss = missed()
        loss.backward()
        return loss

    optimiser.step(closure)
    return missed().item()


@pytest.mark.parametrize('stride,options', [
    (1, {}),
    (2, dict(alpha=0.75)),
    (1, dict(low_squeeze_base='low_channels', gwc_groups=1)),
])
def test_as_good_as_the_numerical_optimum(stride, options):
    conv, _, (moments, _) = case(stride, **options)
    found = fit(conv, moments, moments)
    optimum = numerical_optimum(moments)
    assert 0.1 < optimum < 0.6
    assert found.error <= optimum + 0.03


@pytest.mark.parametrize('stride,options', [
    (1, {}),
    (2, dict(alpha=0.75)),
    (2, dict(alpha=0.25)),
    (1, dict(units='C', gwc_groups=4)),
])
def test_the_layer_is_the_linear_map(stride, options):
    """Running statistics, borders included; the fuse's weights are 1/2."""
    conv, _, (moments, held_out) = case(
        stride, implementation='reference', **options)
    found = fit(conv, moments, held_out)
    central = moments.central()
    x = images(3)
    inner = conv.sru(x) if conv.units == 'S+C' else x
    features = central.layout.features(inner).double()
    wanted = (features - central.z) @ found.weights.matrix().T + central.t
    conv.cru.fuse = Half()
    y = conv(x).flatten(2).transpose(1, 2).double()
    torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('stride', [1, 2])
def test_running_statistics_are_those_of_a_batch(stride):
    conv, dense, _ = case(stride)
    moments = Moments(conv)
    x = images(1)
    moments.update(x, dense(x))
    fit(conv, moments, moments)
    evaluated = conv(x)
    torch.testing.assert_close(conv.train()(x), evaluated, rtol=0, atol=2e-3)


def test_error_is_what_the_layer_misses():
    """Also with the fuse, whose weights change little from image to image."""
    conv, dense, (moments, _) = case()
    found = fit(conv, moments, moments)
    x = images(1)
    target = dense(x)
    variance = target.var((0, 2, 3), correction=0).sum()
    missed = (conv(x) - target).square().mean((0, 2, 3)).sum() / variance
    assert missed.item() == pytest.approx(found.error, abs=0.03)


def test_scale_weighs_the_outputs():
    """A narrow squeeze serves those that count."""
    scale = torch.ones(CHANNELS)
    scale[:CHANNELS // 4] = 10
    missed = []
    for s in (None, scale):
        conv, dense, (moments, held_out) = case(scale=s)
        fit(conv, moments, held_out)
        x = images(2)
        difference = (conv(x) - dense(x)).square().mean((0, 2, 3))
        missed.append(difference[:CHANNELS // 4].sum().item())
    assert missed[1] < 0.97 * missed[0]


def test_more_images_than_features_are_not_needed():
    """Fewer positions than features: the ridge is what makes it solvable."""
    conv, dense, _ = case()
    few, others = Moments(conv), Moments(conv)
    few.update(images(1), dense(images(1)), positions=40)
    others.update(images(2), dense(images(2)))
    assert few.count < few.layout.size
    found = fit(conv, few, others)
    assert found.error < found.held_out < 1


def test_dead_channels():
    conv, dense, _ = case()
    moments = Moments(conv)
    x = images(1)
    x[:, ::2] = 0
    moments.update(x, dense(x))
    fit(conv, moments, moments)
    assert all(p.isfinite().all() for p in conv.state_dict().values())


@pytest.mark.parametrize('x,message', [
    (torch.full((2, CHANNELS, 8, 8), float('nan')), 'are not finite'),
    (torch.zeros(2, CHANNELS, 8, 8), 'gives a constant'),
])
def test_useless_inputs(x, message):
    conv, dense, (_, held_out) = case()
    moments = Moments(conv)
    moments.update(x, dense(x))
    with pytest.raises(FitError, match=message):
        fit(conv, moments, held_out)


def test_no_inputs():
    conv, _, (_, held_out) = case()
    with pytest.raises(FitError, match='no images'):
        fit(conv, Moments(conv), held_out)


@pytest.mark.parametrize('conv,message', [
    (nn.Conv2d(4, 4, 3), 'only SCConv'),
    (SCConv(16, 16, 3, padding=1, units='C&S'), 'units'),
    (SCConv(16, 16, 3, padding=1,
            norm_layer=lambda width: nn.GroupNorm(1, width)), 'GroupNorm'),
])
def test_what_cannot_be_fitted(conv, message):
    with pytest.raises(FitError, match=message):
        check_fits(conv)
