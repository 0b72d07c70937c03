"""Layers with drawn options: valid ones work, others name the argument.

``pytest --hypothesis-profile=slow`` draws thousands. Tried so far: 200 for
each test and layer, 2000 for test_valid_options of SCConv and SPConv.
"""
import inspect
import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from reference import randomise

from mmdet_scconv import layers
from mmdet_scconv.layers.common import to_pair

LAYERS = [
    layers.SCConv, layers.SPConv, layers.SlimConv, layers.GhostConv,
    layers.GhostModule, layers.TiedConv, layers.OctConv, layers.VersatileConv,
    layers.PfLayer
]
GEOMETRY = ('in_channels', 'out_channels', 'kernel_size', 'stride', 'padding',
            'dilation', 'groups', 'bias')
# out of the range of each argument, whatever the others are
INVALID = dict(
    in_channels=st.sampled_from([0, 1, -4, 2.5, '8', None, True]),
    out_channels=st.sampled_from([0, -1, 2.5, '8', None, True]),
    kernel_size=st.sampled_from([0, 2, 4, (3, 2), (3, ), 3., None, True]),
    stride=st.sampled_from([0, -1, (1, 0), (1, 2, 3), 1.5, None, '2']),
    padding=st.sampled_from([7, (9, 1), 'valid', -1, 0.5, None]),
    dilation=st.sampled_from([0, (1, 0), 1.5, None]),
    groups=st.sampled_from([0, 2, -1, None, '1']),
    alpha=st.sampled_from([0, 1, -0.5, 2., float('nan'), '0.5', None]),
    squeeze_ratio=st.sampled_from([0, -1, 1.5, 10**4, None]),
    gwc_groups=st.sampled_from([0, -2, 10**4, 1.5, None]),
    gn_groups=st.sampled_from([0, -2, 10**4, 1.5, None]),
    gate_threshold=st.sampled_from([0, 1, -1, float('nan'), 'a', None]),
    low_squeeze_base=st.sampled_from(['', 'tables', None, 1]),
    units=st.sampled_from(['', 'SC', 's+c', 'S+C+S', None, 1]),
    implementation=st.sampled_from(['', 'fast', None, True]),
    k=st.sampled_from(['2', 2, 4 / 3, None, '']),
    ratio=st.sampled_from([0, 1, -2, 10**4, 1.5, None]),
    dw_size=st.sampled_from([0, 2, (3, 2), 3., None]),
    relu=st.sampled_from([0, 1, 'yes', None]),
    blocks=st.sampled_from([0, -1, 10**4, 1.5, None]),
)


def divisors(number):
    return [d for d in range(1, number + 1) if number % d == 0]


@st.composite
def geometry(draw):
    """Arguments that every layer allows, widths apart."""
    kernel = draw(
        st.sampled_from([1, 3, 5]) | st.sampled_from([(1, 3), (5, 3)]))
    dilation = draw(st.sampled_from([1, 2, (1, 2)]))
    padding = tuple(d * (k - 1) // 2 for k, d in zip(
        to_pair(kernel, 'kernel'), to_pair(dilation, 'dilation')))
    paddings = ['same', padding]
    if padding[0] == padding[1]:
        paddings.append(padding[0])
    return dict(
        kernel_size=kernel,
        stride=draw(st.sampled_from([1, 2, 3, (1, 2)])),
        padding=draw(st.sampled_from(paddings)),
        dilation=dilation,
        bias=draw(st.booleans()))


@st.composite
def split(draw, widths):
    """``alpha`` and a width, of which a share of whole channels goes up."""
    width = draw(widths)
    up = draw(st.integers(1, width - 1))
    return width, up / width, up


@st.composite
def scconv_options(draw, all_units=('S+C', 'C+S', 'C&S', 'S', 'C')):
    units = draw(st.sampled_from(all_units))
    width, alpha, up = draw(
        split(st.integers(1, 20).map(lambda half: 2 * half)))
    out = width if units == 'C&S' else draw(
        st.integers(1, 20).map(lambda half: 2 * half))
    options = dict(
        in_channels=width,
        out_channels=out,
        units=units,
        implementation=draw(st.sampled_from(['fused', 'reference'])))
    if 'C' in units:
        ratio = draw(st.integers(1, min(up, 4)))
        base = draw(st.sampled_from(['out_channels', 'low_channels']))
        low = out if base == 'out_channels' else out - round(alpha * out)
        assume(1 <= low // ratio < out)
        options.update(
            alpha=alpha,
            squeeze_ratio=ratio,
            low_squeeze_base=base,
            gwc_groups=draw(
                st.sampled_from(divisors(math.gcd(up // ratio, out)))))
    if 'S' in units:
        options.update(
            gn_groups=draw(
                st.sampled_from(
                    divisors(out if units == 'C+S' else width))),
            gate_threshold=draw(st.floats(0.01, 0.99)))
    return options


@st.composite
def spconv_options(draw):
    width, alpha, up = draw(split(st.integers(2, 40)))
    out = draw(st.integers(1, 40))
    return dict(
        in_channels=width,
        out_channels=out,
        alpha=alpha,
        gwc_groups=draw(st.sampled_from(divisors(math.gcd(up, out)))))


@st.composite
def slimconv_options(draw):
    k = draw(st.sampled_from(['1', '4/3', '8/3', 1]))
    width = draw(st.integers(1, 8)) * (8 if k == '8/3' else 4)
    return dict(in_channels=width, out_channels=width, k=k)


@st.composite
def ghostconv_options(draw):
    ratio = draw(st.integers(2, 4))
    return dict(
        in_channels=draw(st.integers(2, 20)),
        out_channels=ratio * draw(st.integers(1, 8)),
        ratio=ratio,
        dw_size=draw(st.sampled_from([1, 3, 5, (1, 3)])),
        relu=draw(st.booleans()))


@st.composite
def ghostmodule_options(draw):
    options = draw(ghostconv_options())
    return {name: options[name]
            for name in ('in_channels', 'out_channels', 'ratio')}


@st.composite
def tiedconv_options(draw):
    blocks = draw(st.integers(1, 4))
    return dict(
        in_channels=blocks * draw(st.integers(2, 8)),
        out_channels=blocks * draw(st.integers(1, 8)),
        blocks=blocks)


@st.composite
def octconv_options(draw):
    width, alpha, _ = draw(split(st.integers(2, 40)))
    out = draw(st.integers(2, 40))
    assume(0 < round(alpha * out) < out)
    return dict(in_channels=width, out_channels=out, alpha=alpha)


VALID = dict(
    SCConv=scconv_options(),
    SPConv=spconv_options(),
    SlimConv=slimconv_options(),
    GhostConv=ghostconv_options(),
    TiedConv=tiedconv_options(),
    GhostModule=ghostmodule_options(),
    OctConv=octconv_options(),
    # for each number of crops that geometry()'s kernels give
    VersatileConv=st.fixed_dictionaries(dict(
        in_channels=st.integers(2, 20),
        out_channels=st.sampled_from([6, 12]))),
    PfLayer=st.integers(2, 20).map(
        lambda width: dict(in_channels=width, out_channels=width)))
every_layer = pytest.mark.parametrize(
    'layer_type', LAYERS, ids=lambda layer_type: layer_type.__name__)
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


@st.composite
def valid_options(draw, layer_type):
    return {**draw(geometry()), **draw(VALID[layer_type.__name__])}


def strided(size, stride):
    return tuple(
        math.ceil(length / s)
        for length, s in zip(size, to_pair(stride, 'stride')))


def width_of(layer_type, options):
    """As documented: SlimConv narrows."""
    share = {'4/3': (3, 4), '8/3': (3, 8)}.get(options.get('k'), (1, 1))
    return options['out_channels'] * share[0] // share[1]


@every_layer
@given(data=st.data())
def test_valid_options(layer_type, data):
    """Build, run in training and evaluation, in any layout of memory."""
    options = data.draw(valid_options(layer_type), label='options')
    size = data.draw(sizes, label='size')
    layout = data.draw(
        st.sampled_from([torch.contiguous_format, torch.channels_last]),
        label='layout')
    # nn.Conv2d itself writes out of bounds there, in oneDNN's backward, from
    # few channels (torch 2.13, up to 4 seen): "double free or corruption"
    assume(not (layout is torch.channels_last and options['kernel_size'] == 1
                and options['stride'] != 1))
    layer = layer_type(**options)
    width = width_of(layer_type, options)
    assert layer.out_channels == width
    for training in (True, False):
        layer.train(training)
        # BatchNorm needs two values of each channel
        x = torch.randn(4 if training else 1, options['in_channels'], *size)
        x = x.to(memory_format=layout).requires_grad_()
        out = layer(x)
        assert out.shape == (len(x), width, *strided(size, options['stride']))
        assert out.isfinite().all()
        grads = torch.autograd.grad(
            out.square().sum(), [x, *layer.parameters()])
        assert all(grad.isfinite().all() for grad in grads)


@every_layer
@given(data=st.data())
def test_one_invalid_option(layer_type, data):
    """The error starts with the name of the argument, and its value."""
    options = data.draw(valid_options(layer_type), label='options')
    names = sorted(
        set(inspect.signature(layer_type).parameters) & set(INVALID))
    name = data.draw(st.sampled_from(names), label='name')
    options[name] = data.draw(INVALID[name], label='value')
    with pytest.raises(ValueError) as error:
        layer_type(**options)
    message = str(error.value)
    value = options[name]
    if name == 'kernel_size' and 'only odd' in message:
        value = to_pair(value, name)
    # a ratio may be too large for alpha
    first = (name, 'alpha') if name == 'squeeze_ratio' else (name, )
    assert message.split('=')[0] in first
    assert f'{name}={value!r}' in message


@every_layer
@given(data=st.data())
def test_any_options(layer_type, data):
    """Whatever is given: it works, or the error names an argument."""
    anything = st.one_of(
        st.integers(-1, 12), st.floats(allow_nan=True), st.booleans(),
        st.none(), st.text(max_size=3),
        st.tuples(st.integers(0, 3), st.integers(0, 3)))
    names = [
        name for name in inspect.signature(layer_type).parameters
        if name != 'norm_layer'
    ]
    options = data.draw(valid_options(layer_type), label='options')
    changes = data.draw(
        st.dictionaries(st.sampled_from(names), anything, max_size=3),
        label='changes')
    options.update(changes)
    try:
        layer = layer_type(**options)
    except ValueError as error:
        assert str(error).split('=')[0] in names, error
        return
    x = torch.randn(4, layer.in_channels, 5, 6)
    assert layer(x).shape == (4, layer.out_channels,
                              *strided((5, 6), layer.stride))


@given(data=st.data())
def test_both_implementations_of_scconv(data):
    """Equal in float64, values and gradients, with random weights."""
    options = data.draw(
        st.builds(lambda a, b: {**a, **b}, geometry(),
                  scconv_options(all_units=('S+C', ))),
        label='options')
    size = data.draw(sizes, label='size')
    training = data.draw(st.booleans(), label='training')
    seed = data.draw(st.integers(0, 2**32 - 1), label='seed')
    layer = randomise(layers.SCConv(**options), seed).double().train(training)
    x = torch.randn(
        4,
        options['in_channels'],
        *size,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(seed)).requires_grad_()
    inputs = [x, *layer.parameters()]
    results = []
    for implementation in ('reference', 'fused'):
        layer.implementation = implementation
        out = layer(x)
        results.append(
            [out, *torch.autograd.grad(out.square().sum(), inputs)])
    for reference, fused in zip(*results):
        scale = reference.abs().max().clamp(min=1)
        torch.testing.assert_close(
            fused / scale, reference / scale, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize('implementation', ['reference', 'fused'])
def test_groups_of_one_value(implementation):
    """F.group_norm refuses them; each is normalised to 0."""
    layer = randomise(
        layers.SCConv(8, 8, 1, units='C+S', gn_groups=8,
                      implementation=implementation), 0).double().eval()
    x = torch.randn(2, 8, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(layer(x[:1]), layer(x)[:1])


def test_every_layer_is_tested():
    assert {layer_type.__name__ for layer_type in LAYERS} == \
        set(layers.__all__) - {'SRU', 'CRU'}
    assert set(VALID) == {layer_type.__name__ for layer_type in LAYERS}


def test_invalid_values_cover_every_option():
    for layer_type in LAYERS:
        names = set(inspect.signature(layer_type).parameters)
        assert names - set(INVALID) == {'bias', 'norm_layer'} & names
