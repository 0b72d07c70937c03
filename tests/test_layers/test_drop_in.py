"""What every layer has in common, as one matrix."""
import inspect

import pytest
import torch
from mmcv.cnn import ConvModule, build_conv_layer
from mmcv.cnn.utils import fuse_conv_bn
from reference import assert_option_is_named, randomise
from torch import nn

from mmdet_scconv import layers

CFGS = [
    dict(type='SCConv'),
    dict(type='SCConv', alpha=0.75, low_squeeze_base='low_channels'),
    dict(type='SCConv', units='S'),
    dict(type='SCConv', units='C'),
    dict(type='SCConv', units='C+S'),
    dict(type='SCConv', units='C&S'),
    dict(type='SPConv'),
    dict(type='SlimConv'),
    dict(type='SlimConv', k='8/3'),
    dict(type='SlimConv', k='1'),
    dict(type='GhostConv'),
    dict(type='TiedConv'),
    dict(type='OctConv'),
    dict(type='GhostModule'),
    dict(type='VersatileConv'),
    dict(type='PfLayer'),
]
LAYERS = [getattr(layers, name)
          for name in dict.fromkeys(cfg['type'] for cfg in CFGS)]
every_layer = pytest.mark.parametrize(
    'cfg', CFGS, ids=lambda cfg: '-'.join(map(str, cfg.values())))


def build(cfg, **options):
    return build_conv_layer(cfg, 64, 64, 3, padding=1, **options)


@every_layer
def test_by_name(cfg):
    layer = build(cfg)
    assert type(layer) is getattr(layers, cfg['type'])
    assert layer(torch.randn(2, 64, 8, 8)).shape[1] == layer.out_channels


@every_layer
@pytest.mark.parametrize('options', [{}, dict(stride=2), dict(dilation=2)])
def test_odd_sizes(cfg, options):
    options = dict(dict(stride=1, dilation=1), **options)
    layer = build_conv_layer(
        cfg, 64, 64, 3, padding=options['dilation'], **options).eval()
    for size, strided in (((5, 1), (3, 1)), ((8, 7), (4, 4))):
        assert layer(torch.randn(1, 64, *size)).shape[2:] == (
            strided if options['stride'] == 2 else size)


@every_layer
@pytest.mark.parametrize('stride', [1, 2])
def test_every_parameter_gets_a_gradient(cfg, stride):
    layer = build(cfg, stride=stride)
    layer(torch.randn(2, 64, 8, 8)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@every_layer
def test_bias_is_added_to_the_output(cfg):
    layer = build(cfg).eval()
    x = torch.randn(1, 64, 4, 4)
    without = layer(x)
    bias = torch.arange(float(layer.out_channels))
    with torch.no_grad():
        layer.bias.add_(bias)
    torch.testing.assert_close(
        layer(x) - without,
        bias.view(1, -1, 1, 1).expand_as(without),
        rtol=0,
        atol=1e-4)


@every_layer
def test_conv_module(cfg):
    module = ConvModule(64, 64, 3, padding=1, conv_cfg=cfg)
    assert module.conv.bias.shape == (module.conv.out_channels, )
    module.init_weights()
    if module.conv.out_channels == 64:
        module = ConvModule(
            64, 64, 3, padding=1, conv_cfg=cfg, norm_cfg=dict(type='BN'))
        assert module.conv.bias is None
        assert module(torch.randn(2, 64, 4, 4)).shape == (2, 64, 4, 4)


@every_layer
def test_fuse_conv_bn_leaves_outputs_unchanged(cfg):
    layer = build(cfg, bias=False)
    net = nn.Sequential(
        nn.Conv2d(8, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), layer,
        nn.BatchNorm2d(layer.out_channels))
    randomise(net).double().eval()
    x = torch.randn(2, 8, 9, 9, dtype=torch.float64)
    expected = net(x)
    torch.testing.assert_close(
        fuse_conv_bn(net)(x), expected, rtol=1e-10, atol=1e-10)


@every_layer
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast_output(cfg, dtype):
    torch.manual_seed(0)
    layer = build(cfg).eval()
    x = torch.randn(2, 64, 9, 9)
    expected = layer(x)
    with torch.autocast('cpu', dtype=dtype):
        actual = layer(x.to(dtype))
    assert actual.dtype == dtype
    wrong = (actual.float() - expected).abs() > 16 * torch.finfo(dtype).eps
    # a gate behind rounded convolutions switches where it is close to 0
    allowed = 0.01 if cfg.get('units') == 'C+S' else 0
    assert wrong.float().mean() <= allowed


@every_layer
def test_norm_layer(cfg):
    """Layers with norms inside build them with ``norm_layer``."""
    layer_type = getattr(layers, cfg['type'])
    takes_norms = 'norm_layer' in inspect.signature(layer_type).parameters
    assert layer_type.has_inner_norms == takes_norms
    if not takes_norms:
        assert not any(
            isinstance(m, nn.BatchNorm2d) for m in build(cfg).modules())
        return
    layer = build(cfg, norm_layer=lambda width: nn.GroupNorm(1, width))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in layer.modules())
    assert layer(torch.randn(1, 64, 4, 4)).isfinite().all()


@every_layer
@pytest.mark.parametrize('how', ['trace', 'export'])
def test_exportable(cfg, how):
    layer = randomise(build(cfg, stride=2)).eval()
    x = torch.randn(2, 64, 8, 8)
    exported = (
        torch.jit.trace(layer, x) if how == 'trace' else torch.export.export(
            layer, (x, )).module())
    other = torch.randn_like(x)
    torch.testing.assert_close(exported(other), layer(other))


@pytest.mark.parametrize('layer_type', LAYERS)
@pytest.mark.parametrize('name,value,options', [
    ('groups', 2, dict(groups=2)),
    ('padding', 0, dict(padding=0)),
    ('kernel_size', (2, 2), dict(kernel_size=2)),
    ('in_channels', 1, dict(in_channels=1)),
])
def test_geometry_that_no_layer_has(layer_type, name, value, options):
    assert_option_is_named(layer_type, name, value, options)
