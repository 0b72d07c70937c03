"""SCConv against its definition, written out here with loops in float64."""
import pytest
import torch
from mmcv.cnn.utils import fuse_conv_bn
from reference import (
    assert_equals_definition,
    assert_option_is_named,
    float64_layer,
    randomise,
    ref_bn,
    ref_conv,
    ref_fuse,
    ref_group_norm,
    ref_pool,
)
from torch import nn

from mmdet_scconv.layers import CRU, SRU, SCConv

# ---- the definition, as plain tensor algebra and loops ----


def ref_sru(x, sru):
    gamma, beta = sru.gn.weight, sru.gn.bias
    g = ref_group_norm(x, sru.gn.num_groups, gamma, beta)
    w = 1 / (1 + torch.exp(-(gamma / gamma.sum()).view(1, -1, 1, 1) * g))
    keep = (w > sru.gate_threshold).to(x)
    x1 = (keep + (1 - keep) * w) * x
    x2 = (1 - keep) * w * x
    half = x.shape[1] // 2
    return torch.cat([
        x1[:, :half] + x2[:, half:],
        x1[:, half:] + x2[:, :half],
    ], 1)


def ref_cru(x, cru, alpha, stride, dilation, gwc_groups):
    split = round(alpha * x.shape[1])
    up = ref_bn(
        ref_conv(x[:, :split], cru.squeeze_up.weight, cru.squeeze_up.bias),
        cru.squeeze_up_bn)
    y1 = ref_bn(
        ref_conv(up, cru.gwc.weight, None, stride, dilation, gwc_groups) +
        ref_conv(ref_pool(up, stride), cru.pwc1.weight), cru.bn1)
    low = ref_bn(
        ref_conv(
            ref_pool(x[:, split:], stride), cru.squeeze_low.weight,
            cru.squeeze_low.bias), cru.squeeze_low_bn)
    y2 = ref_bn(
        torch.cat([ref_conv(low, cru.pwc2.weight, cru.pwc2.bias), low], 1),
        cru.bn2)
    return ref_fuse(y1, y2)


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('low_squeeze_base', ['out_channels', 'low_channels'])
@pytest.mark.parametrize(
    'in_channels,out_channels,options',
    [
        (32, 32, {}),
        (32, 32, dict(stride=2)),
        (32, 32, dict(dilation=2)),
        (32, 48, dict(stride=2, alpha=0.75, gate_threshold=0.6)),
        (48, 32, dict(alpha=0.25, gn_groups=8, gwc_groups=4,
                      squeeze_ratio=3, kernel_size=5)),
    ],
)
@pytest.mark.parametrize('size', [(8, 8), (7, 9)])
@pytest.mark.parametrize('implementation', ['fused', 'reference'])
def test_equals_definition(in_channels, out_channels, options,
                           low_squeeze_base, training, size, implementation):
    options = dict(dict(alpha=0.5, stride=1, dilation=1, gwc_groups=2,
                        kernel_size=3), **options)
    layer, x = float64_layer(
        SCConv,
        in_channels,
        out_channels,
        size,
        training,
        low_squeeze_base=low_squeeze_base,
        implementation=implementation,
        **options)
    expected = ref_cru(
        ref_sru(x, layer.sru), layer.cru, options['alpha'],
        options['stride'], options['dilation'], options['gwc_groups'])
    assert_equals_definition(layer, x, expected, out_channels,
                             options['stride'])


@pytest.mark.parametrize('units,expected', [
    ('S', lambda x, m: ref_conv(ref_sru(x, m.sru), m.conv.weight, stride=2)),
    ('C', lambda x, m: ref_cru(x, m.cru, 0.5, 2, 1, 2)),
    ('C+S', lambda x, m: ref_sru(ref_cru(x, m.cru, 0.5, 2, 1, 2), m.sru)),
    ('C&S', lambda x, m: ref_cru(x, m.cru, 0.5, 2, 1, 2) + ref_sru(
        ref_pool(x, 2), m.sru)),
])
def test_units_equal_their_definition(units, expected):
    layer, x = float64_layer(
        SCConv, 32, 32, (7, 9), True, stride=2, units=units)
    assert_equals_definition(layer, x, expected(x, layer), 32, stride=2)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_gate_in_half_precision(dtype):
    """As initialised, half precision rounds the sigmoid to exactly 0.5."""
    sru = SRU(256)
    x = torch.randn(2, 256, 8, 8).to(dtype)
    exact = SRU(256).double()(x.double())
    logits = sru.gate_logits(x.float())
    naive = torch.sigmoid(logits.to(dtype)) > 0.5
    assert (naive != (logits > 0)).float().mean() > 0.01, 'no longer a trap'
    with torch.autocast('cpu', dtype=dtype):
        actual = sru(x)
    assert actual.dtype == dtype
    torch.testing.assert_close(
        actual.double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=1e-3)


@pytest.mark.parametrize('total', [0., 1e-12, -1e-12])
def test_sum_of_gamma_near_zero(total):
    sru = SRU(32)
    with torch.no_grad():
        sru.gn.weight.copy_(torch.tensor([1., -1.]).repeat(16))
        sru.gn.weight[0] += total
    x = torch.randn(2, 32, 5, 5, requires_grad=True)
    out = sru(x)
    out.square().sum().backward()
    for tensor in (out, x.grad, sru.gn.weight.grad, sru.gn.bias.grad):
        assert tensor.isfinite().all()


def test_negative_sum_of_gamma_keeps_its_sign():
    sru = SRU(32)
    x = torch.randn(1, 32, 4, 4)
    expected = sru.gate_logits(x)
    with torch.no_grad():
        # w_gamma is the same quotient, GN(x) changes its sign
        sru.gn.weight.neg_()
    torch.testing.assert_close(sru.gate_logits(x), -expected)


def test_widths_of_the_low_branch():
    assert CRU(64, 64).squeeze_low.out_channels == 32
    for alpha, width in ((0.5, 16), (0.75, 8)):
        cru = CRU(64, 64, alpha=alpha, low_squeeze_base='low_channels')
        assert cru.squeeze_low.out_channels == width


def test_state_dict_keys():
    """The keys are an interface: published weights have them."""
    conv = ('weight', 'bias')
    bn = ('weight', 'bias', 'running_mean', 'running_var',
          'num_batches_tracked')
    expected = {
        'sru.gn': conv,
        'cru.squeeze_up': conv,
        'cru.squeeze_up_bn': bn,
        'cru.squeeze_low': conv,
        'cru.squeeze_low_bn': bn,
        'cru.bn1': bn,
        'cru.bn2': bn,
        'cru.gwc': ('weight', ),
        'cru.pwc1': ('weight', ),
        'cru.pwc2': conv,
    }
    assert set(SCConv(32, 32, 3, padding=1, bias=False).state_dict()) == {
        f'{module}.{key}'
        for module, keys in expected.items() for key in keys
    }


@pytest.mark.parametrize('name,value,options', [
    ('kernel_size', (2, 2), dict(kernel_size=2)),
    ('padding', 0, dict(padding=0)),
    ('padding', 1, dict(dilation=2)),
    ('padding', 'valid', dict(padding='valid')),
    ('stride', 0, dict(stride=0)),
    ('dilation', 1.5, dict(dilation=1.5)),
    ('groups', 2, dict(groups=2)),
    ('alpha', 0, dict(alpha=0)),
    ('alpha', 1.0, dict(alpha=1.0)),
    ('alpha', 0.01, dict(alpha=0.01)),
    ('alpha', 'half', dict(alpha='half')),
    ('squeeze_ratio', 0, dict(squeeze_ratio=0)),
    ('squeeze_ratio', 1, dict(squeeze_ratio=1)),
    ('gwc_groups', 3, dict(gwc_groups=3)),
    ('gn_groups', 5, dict(gn_groups=5)),
    ('gate_threshold', 1, dict(gate_threshold=1)),
    ('low_squeeze_base', 'paper', dict(low_squeeze_base='paper')),
    ('in_channels', 33, dict(in_channels=33, gn_groups=1)),
    ('out_channels', 0, dict(out_channels=0)),
    ('units', 'SC', dict(units='SC')),
    ('units', 'C&S', dict(units='C&S', out_channels=64)),
    ('out_channels', 33, dict(units='C+S', out_channels=33, gwc_groups=1)),
    ('alpha', 0.75, dict(units='S', alpha=0.75)),
    ('gn_groups', 8, dict(units='C', gn_groups=8)),
])
def test_invalid_options(name, value, options):
    assert_option_is_named(SCConv, name, value, options)


def test_fuse_conv_bn_leaves_outputs_unchanged():
    net = nn.Sequential(
        nn.Conv2d(8, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32),
        SCConv(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64))
    randomise(net).double().eval()
    x = torch.randn(2, 8, 9, 9, dtype=torch.float64)
    expected = net(x)
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    fused = fuse_conv_bn(net)
    torch.testing.assert_close(fused(x), expected, rtol=1e-10, atol=1e-10)
    # the first conv's and both squeezes'
    assert norms - sum(
        isinstance(m, nn.BatchNorm2d) for m in fused.modules()) == 3
