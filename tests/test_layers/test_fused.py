"""The fused form of SCConv against the reference form, kernel included.

That both equal the definition in float64 is in test_scconv.py.
"""
import copy
import gc
import re
import sys
import weakref

import pytest
import torch
from reference import randomise
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from mmdet_scconv.layers import SCConv
from mmdet_scconv.layers.fused import affine_cru, cpu_cru, recomputed
from mmdet_scconv.layers.fused.affine_cru import add_points
from mmdet_scconv.layers.kernels import cpu


@pytest.fixture(scope='module')
def kernel(kernel_cache):
    """The compiled kernel, for this module's tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', kernel_cache)
        assert cpu.load_library()


def pair(training, seed=0, **options):
    """One layer twice: fused and reference."""
    fused = SCConv(64, 64, 3, padding=1, bias=False, **options)
    randomise(fused, seed).train(training)
    reference = copy.deepcopy(fused)
    reference.implementation = 'reference'
    return fused, reference


def away_from_threshold(layer, x):
    """In channels_last, and changed where a logit is so near to the gate's
    threshold that rounding to float32 would decide."""
    x = x.to(memory_format=torch.channels_last)
    sru = copy.deepcopy(layer.sru).double()
    while True:
        logits = sru.gate_logits(x.double())
        near = (logits - sru.gate_logit_threshold).abs() < 1e-7
        if not near.any():
            return x
        x[near] += 0.01


def run(layer, x):
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = layer(x)
    weights = torch.randn(
        out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    return out, torch.autograd.grad((out * weights).sum(),
                                    [x, *layer.parameters()])


@pytest.mark.parametrize('memory_format',
                         [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('options', [
    {}, dict(stride=2), dict(alpha=0.75),
    dict(low_squeeze_base='low_channels', stride=2)
], ids=str)
def test_equals_reference_in_float64(options, training, batch, memory_format):
    fused, reference = (m.double() for m in pair(training, **options))
    x = torch.randn(batch, 64, 9, 7, dtype=torch.float64).to(
        memory_format=memory_format)
    (a, grads_a), (e, grads_e) = run(fused, x), run(reference, x)
    torch.testing.assert_close(a, e, rtol=1e-10, atol=1e-10)
    for actual, expected in zip(grads_a, grads_e):
        torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('size', [(9, 7), (40, 57)])
@pytest.mark.parametrize('threshold', [0.5, 0.6])
def test_kernel_equals_reference(kernel, size, training, batch, threshold,
                                 monkeypatch):
    """In float32, against the reference in float64; the mean of the input is
    large against its spread in some channels.

    A bias before a BatchNorm in training has no gradient but rounding: there
    the reference form in float32 says how much is to be expected.
    """
    monkeypatch.setattr(cpu, 'is_loaded', lambda: True)
    fused, reference = pair(training, gate_threshold=threshold)
    x = away_from_threshold(fused, torch.randn(batch, 64, *size)
                            + torch.arange(64).view(-1, 1, 1) % 5)
    assert cpu.fits(x)
    (a, grads_a) = run(fused, x)
    _, grads_32 = run(reference, x)
    (e, grads_e) = run(reference.double(), x.double())
    torch.testing.assert_close(a.double(), e, rtol=1e-4, atol=1e-4)
    for actual, by_reference, expected in zip(grads_a, grads_32, grads_e):
        bound = max(1e-4 * expected.norm(),
                    10 * (by_reference.double() - expected).norm())
        assert (actual.double() - expected).norm() < bound


@pytest.mark.parametrize('scale', [1., 10., 1000., 1e9])
def test_sigmoid_of_the_kernel(kernel, scale):
    """Its exponential is its own: logits from small ones to those at which
    the sigmoid is 0 or 1, in float32 against float64."""
    x = torch.linspace(-1, 1, 6400).view(64, 1, 10, 10).transpose(0, 1)
    x = x.contiguous(memory_format=torch.channels_last)
    weight, bias = torch.full((64, ), scale), torch.zeros(64)
    first, second, *_ = torch.ops.mmdet_scconv.sru_gate(
        x, weight, bias, 1, 1e-5, float(torch.finfo(torch.float32).max))
    x = x.double()
    expected = sum(
        (torch.group_norm(x, 1, weight.double(), bias.double(), 1e-5).sigmoid()
         * x).chunk(2, dim=1))
    for half in (first, second):
        torch.testing.assert_close(half.double(), expected, rtol=0, atol=1e-6)


def operators_of(function):
    """The result, and the names of this package's operators that ran."""
    with torch.profiler.profile() as profile:
        result = function()
    return result, {e.name.removeprefix('mmdet_scconv::')
                    for e in profile.events() if '_scconv::' in e.name}


EAGER = {'sru_gate_affine', 'sru_gate', 'cru_fold_norms', 'cru_join',
         'cru_fuse_weights'}


@pytest.mark.parametrize('options', [
    dict(stride=2), dict(dilation=2, padding=2), dict(alpha=0.75),
    dict(kernel_size=(5, 1), padding=(2, 0), stride=(1, 2)),
    dict(gwc_groups=4, squeeze_ratio=4), dict(gwc_groups=1, stride=3),
    dict(low_squeeze_base='low_channels'), dict(out_channels=96),
], ids=str)
@pytest.mark.parametrize('size', [(9, 12), (1, 1), (2, 5)], ids=str)
def test_kernels_of_the_cru(kernel, options, size, monkeypatch):
    """In float32, against the definition in float64; down to maps that are
    smaller than what a tap sees."""
    monkeypatch.setattr(cpu, 'is_loaded', lambda: True)
    fused = randomise(SCConv(**{
        'in_channels': 64, 'out_channels': 64, 'kernel_size': 3, 'padding': 1,
        'bias': False, **options})).eval()
    x = away_from_threshold(fused, torch.randn(3, 64, *size))
    (out, grads), operators = operators_of(lambda: run(fused, x))
    assert operators == EAGER | {f'{name}_backward' for name in EAGER}
    fused.double().implementation = 'reference'
    expected, expected_grads = run(fused, x.double())
    for a, e in zip((out, *grads), (expected, *expected_grads)):
        assert (a.double() - e).norm() <= 1e-5 * e.norm() + 1e-6


@pytest.mark.parametrize('name', [
    'cru.gwc.weight', 'cru.pwc2.weight', 'cru.bn1.weight', 'cru.bn2.bias',
    'cru.squeeze_up.weight', 'cru.squeeze_low_bn.weight'])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_kernels_pass_on_weights_that_are_not_finite(kernel, name, value,
                                                     monkeypatch):
    """All that the definition gives as NaN or infinite is so."""
    monkeypatch.setattr(cpu, 'is_loaded', lambda: True)
    fused, reference = pair(False)
    for layer in (fused, reference):
        with torch.no_grad():
            layer.get_parameter(name)[-1] = value
    x = torch.randn(2, 64, 9, 7).to(memory_format=torch.channels_last)
    with torch.no_grad():
        diverged = ~reference(x).isfinite()
        assert diverged.any()
        assert not fused(x)[diverged].isfinite().any()


@pytest.mark.parametrize('by_kernel', [False, True])
@pytest.mark.parametrize('name', ['cru.bn1.weight', 'sru.gn.weight'])
def test_frozen_parts(kernel, name, by_kernel, monkeypatch):
    """One parameter is trained alone, of an input without gradient."""
    monkeypatch.setattr(cpu, 'is_loaded', lambda: by_kernel)
    fused, reference = pair(False)
    x = torch.randn(2, 64, 9, 7)
    for layer, image in ((fused, x.to(memory_format=torch.channels_last)),
                         (reference, x)):
        layer.requires_grad_(False)
        layer.get_parameter(name).requires_grad_(True)
        layer(image).square().sum().backward()
        assert layer.cru.gwc.weight.grad is None
    torch.testing.assert_close(
        fused.get_parameter(name).grad, reference.get_parameter(name).grad,
        rtol=1e-3, atol=1e-3)


def test_kernels_on_several_threads(kernel, monkeypatch):
    """Whose sums are added; tests run with one thread otherwise."""
    monkeypatch.setattr(cpu, 'is_loaded', lambda: True)
    fused, reference = pair(False)
    x = away_from_threshold(fused, torch.randn(2, 64, 70, 33))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        (out, grads) = run(fused, x)
    finally:
        torch.set_num_threads(before)
    expected, expected_grads = run(reference.double(), x.double())
    for a, e in zip((out, *grads), (expected, *expected_grads)):
        assert (a.double() - e).norm() <= 1e-5 * e.norm() + 1e-6


@pytest.mark.parametrize('change', [
    lambda cru: setattr(cru, 'bn1', nn.BatchNorm2d(32).eval()),
    lambda cru: setattr(cru, 'squeeze_low_bn', nn.BatchNorm2d(64).eval()),
    lambda cru: setattr(cru, 'pwc1', nn.Conv2d(16, 32, 1, bias=False)),
    lambda cru: setattr(cru, 'pwc2', nn.Conv2d(16, 32, 1)),
    lambda cru: setattr(cru, 'squeeze_up', nn.Conv2d(32, 8, 1)),
], ids=['bn1', 'squeeze_low_bn', 'pwc1', 'pwc2', 'squeeze_up'])
def test_kernels_check_sizes(kernel, change, monkeypatch):
    """They would read what is not there."""
    monkeypatch.setattr(cpu, 'is_loaded', lambda: True)
    fused, _ = pair(False)
    change(fused.cru)
    x = torch.randn(1, 64, 9, 7).to(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match='sizes that do not fit'):
        fused(x)


def test_gate_checks_sizes(kernel):
    x = torch.randn(1, 64, 4, 4).to(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match='as many float32 weights'):
        torch.ops.mmdet_scconv.sru_gate(
            x, torch.ones(32), torch.ones(32), 16, 1e-5, 0.)


def test_backward_pass_alone_is_traced(kernel, monkeypatch):
    """By compiled autograd: the same kernels compute the maps again."""
    monkeypatch.setattr(cpu, 'is_loaded', lambda: True)
    fused, _ = pair(False)
    x = torch.randn(2, 64, 9, 7).to(memory_format=torch.channels_last)
    _, expected = run(fused, x)
    x.requires_grad_()
    out = fused(x)
    for module in (affine_cru, cpu_cru):
        monkeypatch.setattr(module, 'is_traced', lambda: True)
    weights = torch.randn(
        out.shape, generator=torch.Generator().manual_seed(1))
    grad, = torch.autograd.grad((out * weights).sum(), x)
    torch.testing.assert_close(grad, expected[0])


@pytest.mark.parametrize('norm', ['squeeze_up_bn', 'bn1', 'bn2'])
def test_kernels_of_an_infinite_variance(kernel, norm, monkeypatch):
    """The channel is the norm's bias, as in the definition."""
    monkeypatch.setattr(cpu, 'is_loaded', lambda: True)
    fused, reference = pair(False)
    for layer in (fused, reference):
        getattr(layer.cru, norm).running_var[3] = float('inf')
    x = torch.randn(2, 64, 9, 7).to(memory_format=torch.channels_last)
    torch.testing.assert_close(fused(x), reference(x), rtol=1e-4, atol=1e-4)


def test_kernels_keep_every_nan(kernel, monkeypatch):
    """Rounding to bfloat16 would make 0 of one whose bits are all ones."""
    monkeypatch.setattr(cpu, 'is_loaded', lambda: True)
    fused, _ = pair(False)
    with torch.no_grad():
        fused.cru.squeeze_up.weight.view(torch.int32)[3, 4] = 0x7fffffff
    x = torch.randn(2, 64, 9, 7).to(memory_format=torch.channels_last)
    with torch.autocast('cpu', torch.bfloat16), torch.no_grad():
        assert not fused(x).isfinite().any()


@pytest.mark.parametrize('options', [
    dict(stride=2), dict(alpha=0.75, stride=2), dict(gwc_groups=4),
    dict(kernel_size=(1, 5), padding=(0, 2))], ids=str)
def test_kernels_of_the_cru_in_bfloat16(kernel, options, monkeypatch):
    """Relative, under autocast; PyTorch's operators say how much is to be
    expected."""
    fused = randomise(SCConv(**{
        'in_channels': 64, 'out_channels': 64, 'kernel_size': 3, 'padding': 1,
        'bias': False, **options})).eval()
    x = torch.randn(2, 64, 13, 16).to(memory_format=torch.channels_last)
    results = []
    for by_kernel in (True, False):
        monkeypatch.setattr(cpu, 'is_loaded', lambda on=by_kernel: on)
        with torch.autocast('cpu', torch.bfloat16):
            out, grads = run(fused, x)
        results.append((out, *grads))
    fused.double().implementation = 'reference'
    expected, expected_grads = run(fused, x.double())
    eps = torch.finfo(torch.bfloat16).eps
    for a, without, e in zip(*results, (expected, *expected_grads)):
        bound = max(4 * eps * e.norm(), 2 * (without.double() - e).norm())
        assert (a.double() - e).norm() < bound


@pytest.mark.parametrize('change', [
    lambda layer: layer.to(memory_format=torch.channels_last),
    lambda layer: setattr(layer.cru, 'bn2', nn.BatchNorm2d(
        64, affine=False).eval()),
    lambda layer: layer.cru.bfloat16().float(),
], ids=['channels_last', 'norm without weight', 'rounded'])
def test_kernels_of_a_changed_layer(kernel, change, monkeypatch):
    monkeypatch.setattr(cpu, 'is_loaded', lambda: True)
    fused, reference = pair(False)
    x = torch.randn(2, 64, 9, 7).to(memory_format=torch.channels_last)
    fused(x)
    for layer in (fused, reference):
        change(layer)
    torch.testing.assert_close(fused(x), reference(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('channels_last', [False, True])
def test_deployed_by_kernels(kernel, channels_last, monkeypatch):
    monkeypatch.setattr(cpu, 'is_loaded', lambda: True)
    conv, _ = pair(False)
    norm = randomise(nn.BatchNorm2d(64), 1).eval()
    deployed = conv.deploy(norm)
    x = away_from_threshold(conv, torch.randn(3, 64, 9, 7))
    if not channels_last:
        x = x.contiguous()
    deployed.parameters = lambda: ()
    (out, grads), operators = operators_of(lambda: run(deployed, x))
    assert ('cru_fuse_weights' in operators) == channels_last
    layer = nn.Sequential(conv, norm).double().requires_grad_(False)
    conv.implementation = 'reference'
    layer.parameters = lambda: ()
    expected, expected_grads = run(layer, x.double())
    for a, e in zip((out, *grads), (expected, *expected_grads)):
        torch.testing.assert_close(a.double(), e, rtol=1e-4, atol=1e-4)


def test_kernels_and_dtypes_that_they_do_not_know(kernel, monkeypatch):
    """float16 by autocast is PyTorch's; bfloat16 maps and float32 weights are
    an error, as in the definition."""
    monkeypatch.setattr(cpu, 'is_loaded', lambda: True)
    fused, reference = pair(False)
    x = torch.randn(2, 64, 9, 7).to(memory_format=torch.channels_last)
    with torch.autocast('cpu', torch.float16), torch.no_grad():
        out, operators = operators_of(lambda: fused(x))
    assert out.dtype == torch.float16
    assert not {'cru_fold_norms', 'cru_join'} & operators
    for layer in (reference, fused):
        with pytest.raises(RuntimeError):
            layer(x.bfloat16())


def test_kernels_are_in_no_graph(kernel, monkeypatch):
    """What is traced has PyTorch's operators, but for the SRU's gate."""
    monkeypatch.setattr(cpu, 'is_loaded', lambda: True)
    fused, _ = pair(False)
    x = torch.randn(1, 64, 8, 8).to(memory_format=torch.channels_last)
    with torch.no_grad():
        graphs = (torch.jit.trace(fused, x).inlined_graph,
                  make_fx(fused)(x).graph,
                  torch.export.export(fused, (x, )).graph)
    assert re.search(r'scconv\W+sru_gate', str(graphs[1]))
    for graph in graphs:
        assert not re.search(r'scconv\W+(cru_|sru_gate_affine)', str(graph))


@pytest.mark.parametrize('by_kernel', [False, True])
@pytest.mark.parametrize('training', [False, True])
def test_checkpointing(kernel, training, by_kernel, monkeypatch):
    """Each saved tensor may be read once."""
    monkeypatch.setattr(cpu, 'is_loaded', lambda: by_kernel)
    fused, _ = pair(training)
    x = torch.randn(2, 64, 9, 7).to(memory_format=torch.channels_last)

    def checkpointed(x):
        return checkpoint(fused, x, use_reentrant=False)

    checkpointed.parameters = fused.parameters
    for actual, expected in zip(run(checkpointed, x)[1], run(fused, x)[1]):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('autocast', [True, False])
@pytest.mark.parametrize('training', [False, True])
def test_kernel_in_bfloat16(kernel, training, autocast, monkeypatch):
    """Output and gradients, relative, against the definition in float64; the
    mean of the input is large against its spread in some channels.

    Under autocast, and with all weights in bfloat16. The convolutions round,
    too: PyTorch's operators in place of the kernel say how much is to be
    expected where that is more."""
    fused, reference = pair(training)
    if not autocast:
        fused.bfloat16()
        reference.load_state_dict(fused.state_dict())
    torch.manual_seed(0)
    x = torch.randn(2, 64, 40, 57) + torch.arange(64).view(-1, 1, 1) % 5
    x = x.to(torch.bfloat16, memory_format=torch.channels_last)
    results = []
    for by_kernel in (True, False):
        monkeypatch.setattr(cpu, 'is_loaded', lambda on=by_kernel: on)
        assert cpu.fits(x) == by_kernel
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            out, grads = run(copy.deepcopy(fused), x)
        assert out.dtype == torch.bfloat16
        results.append((out, *grads))
    out, grads = run(reference.double(), x.double())
    eps = torch.finfo(torch.bfloat16).eps
    for a, without, e in zip(*results, (out, *grads)):
        bound = max(4 * eps * e.norm(), 1.5 * (without.double() - e).norm())
        assert (a.double() - e).norm() < bound


@pytest.mark.parametrize('size,out_channels', [
    ((8, 6), 64), ((1, 6), 64), ((6, 1), 64), ((1, 1), 64), ((8, 6), 2)],
    ids=str)
@pytest.mark.parametrize('memory_format',
                         [torch.contiguous_format, torch.channels_last])
def test_point_wise_product_has_the_layout_of_the_map(size, out_channels,
                                                      memory_format):
    """The transposed product takes thousands of times as long in bfloat16 on
    a CPU, and its gradient would have the other layout."""
    torch.manual_seed(0)
    out = torch.randn(2, out_channels, *size).to(memory_format=memory_format)
    points = torch.randn(2, 48, *size).to(memory_format=memory_format)
    weight = torch.randn(2, out_channels, 48)
    expected = out + torch.einsum('noc,nchw->nohw', weight, points)
    targets = []

    class Products(TorchDispatchMode):

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.baddbmm_.default:
                targets.append(args[0])
            return func(*args, **(kwargs or {}))

    points.requires_grad_()
    with Products():
        actual = add_points(out, points, weight)
    torch.testing.assert_close(actual, expected)
    assert len(targets) == 1
    assert targets[0].is_contiguous()
    assert targets[0].data_ptr() == out.data_ptr()
    actual.sum().backward()
    assert points.grad.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize('dtype', cpu.DTYPES)
def test_kernel_is_what_runs(kernel, dtype, monkeypatch):
    monkeypatch.setattr(cpu, 'is_loaded', lambda: True)
    fused, _ = pair(False)
    fused.to(dtype)
    x = torch.randn(1, 64, 8, 8).to(dtype, memory_format=torch.channels_last)
    with torch.profiler.profile() as profile, torch.no_grad():
        fused(x)
    assert 'mmdet_scconv::sru_gate' in {e.name for e in profile.events()}


def test_kernel_is_compiled_as_one_operator(kernel, monkeypatch):
    """Its loading is nothing that a compiler traces."""
    monkeypatch.setattr(cpu, 'load_once', lambda: True)
    fused, reference = pair(False)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    compiled = torch.compile(fused, backend=backend, fullgraph=True)
    x = torch.randn(1, 64, 8, 8).to(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(
            compiled(x), reference(x), rtol=1e-4, atol=1e-4)
    operators = {str(node.target) for graph in graphs
                 for module in graph.modules()
                 for node in getattr(getattr(module, 'graph', None), 'nodes',
                                     ())}
    assert 'mmdet_scconv.sru_gate' in operators
    assert not any('.cru_' in name or 'gate_affine' in name
                   for name in operators)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('batch', [1, 2])
@pytest.mark.parametrize('initialised', [True, False])
def test_half_precision(dtype, batch, initialised):
    """Under autocast, also as initialised, where all weights are near 0.5."""
    fused, reference = pair(False)
    if initialised:
        fused = SCConv(64, 64, 3, padding=1).eval()
        reference = copy.deepcopy(fused)
    x = torch.randn(batch, 64, 16, 16).to(dtype)
    with torch.autocast('cpu', dtype=dtype), torch.no_grad():
        actual = fused(x)
    reference.implementation = 'reference'
    expected = reference.double()(x.double())
    assert actual.dtype == dtype
    error = (actual.double() - expected).norm() / expected.norm()
    assert error < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('batch', [1, 2])
def test_gradients_in_half_precision(dtype, batch):
    """Relative, under autocast, against float64."""
    fused, reference = pair(False)
    x = torch.randn(batch, 64, 16, 16).to(dtype)
    with torch.autocast('cpu', dtype=dtype):
        _, grads = run(fused, x)
    _, expected = run(reference.double(), x.double())
    for a, e in zip(grads, expected):
        assert (a.double() - e).norm() < 8 * torch.finfo(dtype).eps * e.norm()


@pytest.mark.parametrize('by_kernel', [False, True])
@pytest.mark.parametrize('size', [(1, 1), (1, 70), (17, 9)], ids=str)
def test_sizes_that_no_window_fits(kernel, size, by_kernel, monkeypatch):
    """Odd ones with a stride of 2, down to a single pixel."""
    monkeypatch.setattr(cpu, 'is_loaded', lambda: by_kernel)
    fused, reference = pair(False, stride=2)
    x = away_from_threshold(fused, torch.randn(1, 64, *size))
    (a, grads), (e, expected) = run(fused, x), run(reference.double(),
                                                   x.double())
    for actual, exact in zip((a, *grads), (e, *expected)):
        assert (actual.double() - exact).norm() <= 1e-4 * exact.norm()


@pytest.mark.parametrize('where,value', [
    ('x', float('nan')), ('x', float('inf')), ('x', -float('inf')),
    ('gn.weight', float('nan')), ('gn.weight', float('inf')),
    ('gn.bias', float('nan'))])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_kernel_passes_on_what_is_not_finite(kernel, where, value, dtype,
                                             monkeypatch):
    """One channel is enough: the loss tells that a training has diverged."""
    monkeypatch.setattr(cpu, 'is_loaded', lambda: True)
    torch.manual_seed(0)
    conv = SCConv(32, 32, 3, padding=1, gn_groups=4).eval()
    x = torch.randn(2, 32, 7, 6).to(dtype)
    with torch.no_grad():
        if where == 'x':
            x[:, 5] = value
        else:
            conv.sru.get_parameter(where)[5] = value
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
        assert not conv(x).isfinite().any()


@pytest.mark.parametrize('implementation', ['fused', 'torch', 'reference'])
@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('by_kernel', [False, True])
def test_an_input_that_is_changed_in_place_is_an_error(
        kernel, by_kernel, training, implementation, monkeypatch):
    """As with a dense convolution, not a wrong gradient."""
    monkeypatch.setattr(cpu, 'is_loaded', lambda: by_kernel)
    before = nn.Conv2d(3, 32, 1)
    conv = SCConv(32, 32, 3, padding=1, gn_groups=4,
                  implementation=implementation).train(training)
    x = before(torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last))
    out = conv(x).sum() + x.relu_().sum()
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        out.backward()


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('recorded', [False, True])
@pytest.mark.parametrize('memory_format',
                         [torch.contiguous_format, torch.channels_last])
def test_deployed_of_an_empty_input(kernel, memory_format, recorded, stride,
                                    monkeypatch):
    monkeypatch.setattr(cpu, 'is_loaded', lambda: True)
    conv = SCConv(32, 32, 3, padding=1, gn_groups=4, stride=stride).eval()
    x = torch.randn(0, 32, 14, 9).contiguous(
        memory_format=memory_format).requires_grad_(recorded)
    expected = conv(x)
    deployed = conv.deploy(nn.BatchNorm2d(32).eval())
    assert deployed(x).shape == expected.shape


def test_deployed_without_norms():
    """They may have been folded before, as by mmcv's fuse_conv_bn."""
    conv = SCConv(32, 32, 3, padding=1, gn_groups=4,
                  norm_layer=lambda channels: nn.Identity()).eval()
    norm = nn.BatchNorm2d(32).eval()
    x = torch.randn(2, 32, 9, 7)
    torch.testing.assert_close(conv.deploy(norm)(x), norm(conv(x)))


def test_pickles_need_no_triton(monkeypatch, tmp_path):
    """A deployed network is stored whole, and loaded where triton is not."""
    deployed = SCConv(32, 32, 3, padding=1, gn_groups=4).eval().deploy(
        nn.BatchNorm2d(32).eval())
    torch.save(deployed, tmp_path / 'deployed.pt')
    for name in [*sys.modules]:
        if 'triton_scconv' in name:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'triton', None)
    loaded = torch.load(tmp_path / 'deployed.pt', weights_only=False)
    assert loaded.triton_options == deployed.triton_options


@pytest.mark.parametrize('by_kernel', [False, True])
@pytest.mark.parametrize('total', [0., 1e-7, -1e-7])
def test_a_sum_of_gamma_near_zero(kernel, total, by_kernel, monkeypatch):
    """w_gamma is bounded: values as the definition's, no gradient is NaN."""
    monkeypatch.setattr(cpu, 'is_loaded', lambda: by_kernel)
    fused, reference = pair(False)
    with torch.no_grad():
        for layer in (fused, reference):
            gamma = layer.sru.gn.weight
            gamma.copy_(torch.linspace(-1, 1, 64))
            gamma[-1] += total
    x = torch.randn(1, 64, 8, 8).to(memory_format=torch.channels_last)
    out, grads = run(fused, x)
    torch.testing.assert_close(out, reference(x), rtol=1e-3, atol=1e-3)
    assert all(t.isfinite().all() for t in (out, *grads))


@pytest.mark.parametrize('by_kernel', [False, True])
def test_a_sum_of_gamma_near_zero_in_bfloat16(kernel, by_kernel, monkeypatch):
    monkeypatch.setattr(cpu, 'is_loaded', lambda: by_kernel)
    fused, reference = pair(False)
    with torch.no_grad():
        fused.sru.gn.weight.copy_(torch.linspace(-1, 1, 64))
    reference.load_state_dict(fused.state_dict())
    x = torch.randn(2, 64, 8, 8).to(torch.bfloat16,
                                    memory_format=torch.channels_last)
    with torch.autocast('cpu', torch.bfloat16):
        out, grads = run(fused, x)
    expected = reference.double()(x.double())
    assert (out.double() - expected).norm() < 0.03 * expected.norm()
    assert all(t.isfinite().all() for t in (out, *grads))


@pytest.mark.parametrize('batch', [1, 2])
@pytest.mark.parametrize('options', [{}, dict(stride=2), dict(alpha=0.75)],
                         ids=str)
@pytest.mark.parametrize('by_kernel', [False, True])
def test_keeps_no_more_than_its_input(kernel, by_kernel, options, batch,
                                      monkeypatch):
    """For the backward pass, as a dense convolution; weights apart."""
    monkeypatch.setattr(cpu, 'is_loaded', lambda: by_kernel)
    fused, _ = pair(False, **options)
    x = torch.randn(batch, 64, 80, 80, requires_grad=True).to(
        memory_format=torch.channels_last)
    with torch.profiler.profile(profile_memory=True) as profile:
        out = fused(x)
    kept = sum(event.nbytes()
               for event in profile.profiler.kineto_results.events()
               if event.name() == '[memory]')
    weights = 4 * batch * sum(p.numel() for p in fused.parameters())
    assert kept - 4 * out.numel() < weights + 4 * x.numel() / 8


@pytest.mark.parametrize('options', [
    {}, dict(stride=2, alpha=0.75), dict(low_squeeze_base='low_channels'),
    dict(bias=True), dict(implementation='reference')
], ids=str)
def test_deployed_equals_conv_and_norm(options):
    """In float64."""
    conv = SCConv(64, 64, 3, padding=1, **{'bias': False, **options})
    norm = torch.nn.BatchNorm2d(64)
    for i, module in enumerate((conv, norm)):
        randomise(module, i).double().eval()
    x = torch.randn(2, 64, 9, 7, dtype=torch.float64)
    torch.testing.assert_close(
        conv.deploy(norm)(x), norm(conv(x)), rtol=1e-10, atol=1e-10)


def test_an_error_leaves_no_hooks(monkeypatch):
    """They would be called for whatever is computed later."""
    packed = []
    monkeypatch.setattr(recomputed.Recomputed, 'pack',
                        lambda self, saved: packed.append(saved))
    fused, _ = pair(False)
    with pytest.raises(RuntimeError):
        fused(torch.randn(1, 64, 8, 8, dtype=torch.bfloat16))
    packed.clear()
    torch.ones(1, requires_grad=True).exp()
    assert not packed


@pytest.mark.parametrize('by_kernel', [False, True])
def test_keeps_nothing_after_the_backward_pass(kernel, by_kernel,
                                               monkeypatch):
    """Without Python's garbage collector, which comes when it wants."""
    monkeypatch.setattr(cpu, 'is_loaded', lambda: by_kernel)
    fused, _ = pair(False)
    x = torch.randn(1, 64, 8, 8).to(memory_format=torch.channels_last)
    image = weakref.ref(x.requires_grad_())
    gc.collect()
    gc.disable()
    try:
        fused(x).sum().backward()
        del x
        assert image() is None
    finally:
        gc.enable()


@pytest.mark.parametrize('conv, norm', [
    (SCConv(64, 64, 3, padding=1, units='C'), torch.nn.BatchNorm2d(64)),
    (SCConv(64, 64, 3, padding=1), torch.nn.GroupNorm(2, 64)),
    (SCConv(64, 64, 3, padding=1,
            norm_layer=lambda width: torch.nn.GroupNorm(2, width)),
     torch.nn.BatchNorm2d(64)),
], ids=['units', 'norm behind', 'norms inside'])
def test_what_cannot_be_deployed(conv, norm):
    assert conv.eval().deploy(norm.eval()) is None


def test_exporting_form_equals_reference(monkeypatch):
    """The terms for ONNX, in float64."""
    monkeypatch.setattr(torch.compiler, 'is_exporting', lambda: True)
    fused, reference = (m.double() for m in pair(False))
    x = torch.randn(2, 64, 9, 7, dtype=torch.float64)
    torch.testing.assert_close(fused(x), reference(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('strict', [False, True])
def test_exported_graph(strict):
    """In terms that ONNX has: no function or operator of ours."""
    fused, _ = pair(False)
    graph = torch.export.export(
        fused, (torch.randn(2, 64, 8, 8), ), strict=strict).graph
    targets = {str(node.target) for node in graph.nodes
               if node.op == 'call_function'}
    assert any('aten.where' in target for target in targets)
    assert not any('mmdet_scconv' in target or 'autograd_function' in target
                   for target in targets), targets


@pytest.mark.parametrize('stride', [1, 2])
def test_trace_holds_for_other_sizes(stride):
    """A trace of one image, for a batch of another size."""
    fused, _ = pair(False, stride=stride)
    traced = torch.jit.trace(fused, torch.randn(1, 64, 8, 8))
    x = torch.randn(3, 64, 9, 11)
    torch.testing.assert_close(traced(x), fused(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('training', [False, True])
def test_compiled_gradients(training):
    """torch 2.11's compiler once gave zeros."""
    fused, reference = pair(training)
    compiled = torch.compile(fused, backend='aot_eager', fullgraph=True)
    x = torch.randn(2, 64, 8, 8)
    (_, grads), (_, expected) = run(compiled, x), run(reference, x)
    torch.testing.assert_close(grads, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('stride', [1, 2])
def test_compiles_once_for_all_shapes(stride):
    """Without a break, the second shape already with dynamic ones."""
    counter = CompileCounter()
    fused, _ = pair(False, stride=stride)
    compiled = torch.compile(fused, backend=counter, fullgraph=True)
    for size in range(20, 40, 2):
        x = torch.randn(2, 64, size, size + 6)
        with torch.no_grad():
            torch.testing.assert_close(
                compiled(x), fused(x), rtol=1e-4, atol=1e-4)
    assert counter.frame_count <= 2


def test_implementation_is_checked():
    with pytest.raises(ValueError, match="implementation='fast' is not valid"):
        SCConv(64, 64, 3, padding=1, implementation='fast')
