"""SCConv against its definition, written out here with loops in float64."""
import pytest
import torch
from mmcv.cnn import ConvModule, build_conv_layer
from mmcv.cnn.utils import fuse_conv_bn
from reference import (
    assert_equals_definition,
    assert_option_is_named,
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
@pytest.mark.parametrize('low_width', ['tables', 'text'])
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
def test_equals_definition(in_channels, out_channels, options, low_width,
                           training, size):
    options = dict(dict(alpha=0.5, stride=1, dilation=1, gwc_groups=2,
                        kernel_size=3), **options)
    layer = SCConv(
        in_channels,
        out_channels,
        padding='same',
        bias=False,
        low_width=low_width,
        **options)
    randomise(layer).double().train(training)
    x = torch.randn(
        3, in_channels, *size, dtype=torch.float64, requires_grad=True)
    expected = ref_cru(
        ref_sru(x, layer.sru), layer.cru, options['alpha'],
        options['stride'], options['dilation'], options['gwc_groups'])
    assert_equals_definition(layer, x, expected, out_channels,
                             options['stride'])


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


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast_output(dtype):
    layer = SCConv(64, 64, 3, padding=1).eval()
    x = torch.randn(2, 64, 9, 9)
    expected = layer(x)
    with torch.autocast('cpu', dtype=dtype):
        actual = layer(x.to(dtype))
    assert actual.dtype == dtype
    torch.testing.assert_close(
        actual.float(), expected, rtol=0, atol=16 * torch.finfo(dtype).eps)


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


@pytest.mark.parametrize('options', [
    {},
    dict(stride=2, low_width='text'),
    dict(bias=True),
])
def test_every_parameter_gets_a_gradient(options):
    layer = SCConv(32, 64, 3, padding=1, **options)
    layer(torch.randn(2, 32, 8, 8)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_odd_sizes_and_batch_1():
    layer = SCConv(32, 32, 3, stride=2, padding=1)
    assert layer(torch.randn(1, 32, 5, 1)).shape == (1, 32, 3, 1)
    assert layer.eval()(torch.randn(1, 32, 1, 1)).shape == (1, 32, 1, 1)


def test_bias_is_added_to_the_output():
    layer = SCConv(32, 32, 3, padding=1).eval()
    x = torch.randn(1, 32, 4, 4)
    without = layer(x)
    with torch.no_grad():
        layer.bias.add_(torch.arange(32.))
    torch.testing.assert_close(
        layer(x) - without,
        torch.arange(32.).view(1, -1, 1, 1).expand(1, 32, 4, 4),
        rtol=0,
        atol=1e-4)


def test_widths_of_the_low_branch():
    assert CRU(64, 64).squeeze_low.out_channels == 32
    assert CRU(64, 64, low_width='text').squeeze_low.out_channels == 16
    assert CRU(
        64, 64, alpha=0.75, low_width='text').squeeze_low.out_channels == 8


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
    ('low_width', 'paper', dict(low_width='paper')),
    ('in_channels', 33, dict(in_channels=33, gn_groups=1)),
    ('out_channels', 0, dict(out_channels=0)),
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


def test_by_name():
    layer = build_conv_layer(
        dict(type='SCConv', alpha=0.75), 64, 64, 3, padding=1)
    assert isinstance(layer, SCConv)
    assert layer.cru.up_channels == 48
    module = ConvModule(
        32,
        64,
        3,
        stride=2,
        padding=1,
        conv_cfg=dict(type='SCConv'),
        norm_cfg=dict(type='BN'))
    assert module.conv.bias is None
    module.init_weights()
    assert module(torch.randn(2, 32, 8, 8)).shape == (2, 64, 4, 4)
    assert ConvModule(
        32, 64, 3, padding=1, conv_cfg=dict(type='SCConv')).conv.bias.shape \
        == (64, )


def test_norm_layer():
    layer = SCConv(
        32,
        32,
        3,
        padding=1,
        norm_layer=lambda width: nn.GroupNorm(4, width))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in layer.modules())
    assert layer(torch.randn(1, 32, 4, 4)).shape == (1, 32, 4, 4)


@pytest.mark.parametrize('how', ['trace', 'export'])
def test_exportable(how):
    layer = randomise(SCConv(32, 32, 3, stride=2, padding=1)).eval()
    x = torch.randn(2, 32, 8, 8)
    exported = (
        torch.jit.trace(layer, x) if how == 'trace' else torch.export.export(
            layer, (x, )).module())
    other = torch.randn_like(x)
    torch.testing.assert_close(exported(other), layer(other))
