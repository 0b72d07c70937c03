import doctest

import pytest
import torch
from torch import nn

from mmdet_scconv.layers import SCConv, SPConv
from mmdet_scconv.warm_start import fit as fit_module
from mmdet_scconv.warm_start.fit import LinearMap, fit
from mmdet_scconv.warm_start.layers import Target, fit_closed_form, method_of
from mmdet_scconv.warm_start.moments import (
    CHUNK,
    Covariance,
    FitError,
    LinearForm,
    moments,
)
from mmdet_scconv.warm_start.weights import write

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


def rows(t):
    return t.flatten(2).transpose(1, 2).flatten(0, 1).double()


def sums(conv, x, target, scale=None, positions=None):
    """Moments of what an SCConv's linear map sees, and of a target."""
    if getattr(conv, 'units', None) == 'S+C':
        x = conv.sru(x)
    chosen = torch.randperm(len(rows(target)))[:positions]
    values = rows(target)[chosen]
    return moments(LinearForm.of(conv).features(x, chosen),
                   values if scale is None else values * scale)


@torch.no_grad()
def case(stride=1, scale=None, units='S+C', kind=SCConv, **options):
    """A layer, the dense convolution to replace, moments and held out."""
    torch.manual_seed(0)
    if units == 'S+C' and kind is SCConv:
        options['gn_groups'] = 4
    if kind is SCConv:
        options['units'] = units
    dense = nn.Conv2d(CHANNELS, CHANNELS, 3, stride, 1, bias=False)
    conv = kind(CHANNELS, CHANNELS, 3, stride, 1, **options).eval()
    nn.init.normal_(conv.bias)
    return conv, dense, [sums(conv, images(seed), dense(images(seed)), scale)
                         for seed in (1, 2)]


@torch.no_grad()
def fitted(conv, x, target, held_out, scale=None):
    """Fit as in a network; returns the share of the variance that is
    unexplained on the images held out."""
    target = torch.cat([target, held_out[1]])
    scale = torch.ones(target.shape[1]).double() if scale is None else scale
    positions = torch.arange(len(rows(target)))
    return fit_closed_form(
        conv, torch.cat([x, held_out[0]]),
        Target(rows(target), positions, scale, target[0, 0].numel()), len(x))


def numerical_optimum(form, sums):
    """The least error that L-BFGS finds for weights of this structure."""
    cov = Covariance.of(form, sums)
    mask = form.same_group().repeat(form.taps, 1, 1)
    mask[form.point] = True
    torch.manual_seed(0)
    weights = [
        (0.2 * torch.randn(shape, dtype=torch.float64)).requires_grad_()
        for shape in ((form.squeezed, form.up), mask.shape,
                      (form.outputs - form.squeezed_low,
                       form.squeezed_low),
                      (form.squeezed_low, form.low))
    ]

    def unexplained():
        squeeze, taps, pwc2, low = weights
        low = torch.cat([pwc2 @ low, low])
        matrix = LinearMap(squeeze, taps * mask, low).matrix()
        explained = 2 * (matrix.T * cov.zt).sum() - (
            (matrix @ cov.zz) * matrix).sum()
        return 1 - explained / cov.variance.sum()

    optimiser = torch.optim.LBFGS(
        weights, max_iter=150, line_search_fn='strong_wolfe')

    def closure():
        optimiser.zero_grad()
        loss = unexplained()
        loss.backward()
        return loss

    optimiser.step(closure)
    return unexplained().item()


@pytest.mark.parametrize('stride,options', [
    (1, {}),
    (2, dict(alpha=0.75)),
    (1, dict(low_squeeze_base='low_channels', gwc_groups=1)),
])
def test_as_good_as_the_numerical_optimum(stride, options):
    conv, _, (sample, _) = case(stride, **options)
    form = LinearForm.of(conv)
    found = fit(form, sample, sample)
    optimum = numerical_optimum(form, sample)
    assert 0.1 < optimum < 0.6
    assert found.error <= optimum + 0.03


@pytest.mark.parametrize('stride,options', [
    (1, {}),
    (2, dict(alpha=0.75)),
    (2, dict(alpha=0.25)),
    (1, dict(units='C', gwc_groups=4)),
    (1, dict(kind=SPConv)),
    (2, dict(kind=SPConv, alpha=0.75)),
])
@torch.no_grad()
def test_the_layer_is_the_linear_map(stride, options):
    """Running statistics, borders included; the fuse's weights are 1/2."""
    if options.get('kind', SCConv) is SCConv:
        options = dict(options, implementation='reference')
    conv, dense, (sample, held_out) = case(stride, **options)
    form = LinearForm.of(conv)
    found = fit(form, sample, held_out)
    inner = (conv.sru if getattr(conv, 'units', None) == 'S+C'
             else nn.Identity())
    cov = Covariance.of(form, sample + held_out)
    write(conv, inner(torch.cat([images(1), images(2)])), form, found.map,
          cov.t, torch.ones(CHANNELS).double())
    x = images(3)
    features = form.features(
        inner(x), torch.arange(len(rows(dense(x))))).double()
    wanted = (features - cov.z) @ found.map.matrix().T + cov.t
    getattr(conv, 'cru', conv).fuse = Half()
    torch.testing.assert_close(rows(conv(x)), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kind', [SCConv, SPConv])
@pytest.mark.parametrize('stride', [1, 2])
@torch.no_grad()
def test_running_statistics_are_those_of_a_batch(stride, kind):
    conv, dense, _ = case(stride, kind=kind)
    x = torch.cat([images(1), images(2)])
    y = dense(x)
    fitted(conv, x[:6], y[:6], (x[6:], y[6:]))
    evaluated = conv(x)
    torch.testing.assert_close(conv.train()(x), evaluated, rtol=0, atol=2e-3)


@pytest.mark.parametrize('kind', [SCConv, SPConv])
@torch.no_grad()
def test_error_is_that_of_the_layer(kind):
    """Also with the fuse, whose weights change little from image to image."""
    conv, dense, _ = case(kind=kind)
    x = images(1)
    target = dense(x)
    error = fitted(conv, x, target, (x, target))
    variance = target.var((0, 2, 3), correction=0).sum()
    unexplained = (conv(x) - target).square().mean((0, 2, 3)).sum() / variance
    assert unexplained.item() == pytest.approx(error, abs=0.03)


@torch.no_grad()
def test_scale_weighs_the_outputs():
    """A narrow squeeze favours outputs with a large scale."""
    scale = torch.ones(CHANNELS).double()
    scale[:CHANNELS // 4] = 10
    differences = []
    for s in (None, scale):
        conv, dense, _ = case()
        x, other = images(1), images(2)
        fitted(conv, x, dense(x), (other, dense(other)), s)
        difference = (conv(other) - dense(other)).square().mean((0, 2, 3))
        differences.append(difference[:CHANNELS // 4].sum().item())
    assert differences[1] < 0.97 * differences[0]


@torch.no_grad()
def test_more_images_than_features_are_not_needed():
    """Fewer positions than features: the ridge is what makes it solvable."""
    conv, dense, _ = case()
    form = LinearForm.of(conv)
    few = sums(conv, images(1), dense(images(1)), positions=40)
    others = sums(conv, images(2), dense(images(2)))
    assert few.count < form.size
    found = fit(form, few, others)
    assert found.error < found.held_out < 1


@torch.no_grad()
def test_dead_channels():
    conv, dense, _ = case()
    x = images(1)
    x[:, ::2] = 0
    fitted(conv, x, dense(x), (x, dense(x)))
    assert all(p.isfinite().all() for p in conv.state_dict().values())


def test_sums_of_two_samples_are_those_of_both():
    torch.manual_seed(0)
    z, t = torch.randn(9, 4), torch.randn(9, 2)
    parts, whole = moments(z[:3], t[:3]) + moments(z[3:], t[3:]), moments(z, t)
    for a, b in zip(vars(parts).values(), vars(whole).values()):
        torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b),
                                   rtol=1e-6, atol=1e-6)


def test_sums_of_many_positions():
    """In parts, and with means far from 0."""
    torch.manual_seed(0)
    z, t = 9 + torch.randn(CHUNK + 5, 4), torch.randn(CHUNK + 5, 2)
    form = LinearForm.of(SPConv(4, 2, 1))
    found = Covariance.of(form, moments(z, t))
    wanted = torch.cat([z, t], 1).double().T.cov(correction=0)
    torch.testing.assert_close(found.zz, wanted[:4, :4], rtol=0, atol=1e-5)
    torch.testing.assert_close(found.zt, wanted[:4, 4:], rtol=0, atol=1e-5)


def test_the_example_of_the_docs():
    """The doctest in fit.py."""
    result = doctest.testmod(fit_module)
    assert result.attempted > 2 and not result.failed


@pytest.mark.parametrize('x,message', [
    (torch.full((2, CHANNELS, 8, 8), float('nan')), 'are not finite'),
    (torch.zeros(2, CHANNELS, 8, 8), 'gives a constant'),
])
def test_useless_inputs(x, message):
    conv, dense, _ = case()
    with pytest.raises(FitError, match=message):
        fitted(conv, x, dense(x), (x, dense(x)))


def test_no_inputs():
    with pytest.raises(FitError, match='no images'):
        moments(torch.zeros(0, 4), torch.zeros(0, 2))


@pytest.mark.parametrize('conv,method', [
    (SCConv(16, 16, 3, padding=1), 'closed form'),
    (SCConv(16, 16, 3, padding=1, units='C'), 'closed form'),
    (SPConv(16, 16, 3, padding=1), 'closed form'),
    (nn.Conv2d(4, 4, 3), 'regression'),
    (SCConv(16, 16, 3, padding=1, units='C&S'), 'regression'),
    (SCConv(16, 16, 3, padding=1,
            norm_layer=lambda width: nn.GroupNorm(1, width)), 'regression'),
])
def test_which_layers_have_a_closed_form(conv, method):
    assert method_of(conv) == method
