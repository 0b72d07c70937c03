"""The Triton kernels against the definition in float64: on a GPU where there
is one, else in Triton's interpreter (TRITON_INTERPRET=1 in the environment).

Where torch, triton and pytest alone are installed, --noconftest leaves out
what the rest of the tests needs.
"""
import copy
import os
import sys
import warnings
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _disable_current_modes,
)
from torch.utils.checkpoint import checkpoint

sys.path.insert(0, str(Path(__file__).parent))
from reference import randomise  # noqa: E402

from mmdet_scconv.layers import SCConv  # noqa: E402
from mmdet_scconv.layers.kernels import gpu, gpu_batches  # noqa: E402
from mmdet_scconv.layers.kernels.parameters import (  # noqa: E402
    options_of,
    tensors_of,
)

if gpu.HAS_TRITON:
    from mmdet_scconv.layers.kernels import triton_scconv
    from mmdet_scconv.layers.kernels.triton_scconv.norm_fuse import (
        NormFusePlan,
    )
    from mmdet_scconv.layers.kernels.triton_scconv.plan import make_plan

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
pytestmark = pytest.mark.skipif(
    not (gpu.HAS_TRITON and (DEVICE == 'cuda' or gpu.INTERPRETED)),
    reason='needs triton, and a GPU or TRITON_INTERPRET=1')
TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)


@pytest.fixture(autouse=True)
def trusted(monkeypatch, request):
    """Skip the comparison before the first use, except in its tests."""
    if 'nothing_compared' not in request.fixturenames:
        for module in (gpu, gpu_batches):
            monkeypatch.setattr(module, 'compared', lambda *args: True)


def layers(channels=16, out_channels=16, **options):
    """A randomised layer in eval mode, and its definition in float64."""
    layer = SCConv(channels, out_channels, **dict(
        dict(kernel_size=3, padding='same', bias=False, gn_groups=4),
        **options))
    randomise(layer).eval()
    definition = copy.deepcopy(layer).double()
    definition.implementation = 'reference'
    return layer.to(DEVICE), definition.to(DEVICE)


def maps(channels=16, size=(7, 5), batch=2, dtype=torch.float32,
         memory_format=torch.channels_last):
    """Channels whose mean is large against their spread among them."""
    x = torch.randn(batch, channels, *size,
                    generator=torch.Generator().manual_seed(0))
    x = x + torch.arange(channels).view(-1, 1, 1) % 5 / 2
    return x.to(DEVICE, dtype).to(memory_format=memory_format)


def run(layer, x):
    """Output, and gradients of a random sum of it."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = layer(x)
    weights = torch.randn(out.shape, dtype=torch.float64,
                          generator=torch.Generator().manual_seed(1))
    loss = (out.double() * weights.to(DEVICE)).sum()
    return out, torch.autograd.grad(loss, [x, *layer.parameters()])


def assert_near(actual, expected, dtype):
    difference = (actual.double() - expected).norm()
    assert difference <= TOLERANCE[dtype] * expected.norm() + 1e-7


def assert_equals_definition(options, dtype=torch.float32, **input_options):
    layer, definition = layers(**options)
    x = maps(options.get('channels', 16), dtype=dtype, **input_options)
    assert gpu.by_kernels(layer, x) is not None
    out, grads = run(layer, x)
    expected, expected_grads = run(definition, x.double())
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=input_options.get(
        'memory_format', torch.channels_last))
    for a, e in zip((out, *grads), (expected, *expected_grads)):
        assert_near(a, e, dtype)


@pytest.mark.parametrize('options', [
    {},
    dict(stride=2),
    dict(stride=(1, 3)),
    dict(alpha=0.75, stride=2),
    dict(alpha=0.25),
    dict(low_squeeze_base='low_channels'),
    dict(channels=24, out_channels=48, gn_groups=3),
    dict(kernel_size=5, dilation=2),
    dict(gwc_groups=1),
    dict(gwc_groups=4, gate_threshold=0.6, channels=32),
    pytest.param(dict(channels=160, out_channels=160),
                 marks=pytest.mark.slow),
], ids=str)
def test_equals_definition(options):
    assert_equals_definition(options)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize('stride', [1, 2])
def test_half_precision(dtype, stride):
    assert_equals_definition(dict(stride=stride), dtype)


@pytest.mark.parametrize('stride', [1, 2])
def test_contiguous_maps(stride):
    assert_equals_definition(
        dict(stride=stride), memory_format=torch.contiguous_format)


@pytest.mark.parametrize('size', [(1, 1), (1, 70), (17, 9)], ids=str)
def test_odd_sizes(size):
    assert_equals_definition(dict(stride=2), size=size, batch=1)


@pytest.mark.parametrize('options', [
    {}, dict(alpha=0.75), dict(alpha=0.25),
    dict(channels=160, out_channels=160),  # more than a block
    dict(channels=24, out_channels=48, gn_groups=3)
], ids=str)
@pytest.mark.parametrize('memory_format', [
    torch.channels_last, torch.contiguous_format], ids=str)
def test_sru_alone(options, memory_format):
    assert_sru_equals_definition(options, memory_format=memory_format)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
def test_sru_alone_in_half_precision(dtype):
    assert_sru_equals_definition({}, dtype)


@pytest.mark.parametrize('size', [(1, 1), (1, 70)], ids=str)
def test_sru_alone_of_odd_sizes(size):
    assert_sru_equals_definition({}, size=size, batch=1)


def assert_sru_equals_definition(options, dtype=torch.float32,
                                 **input_options):
    """Where the norms behind it use batch statistics."""
    layer, definition = layers(**options)
    layer.train()
    x = maps(options.get('channels', 16), dtype=dtype, **input_options)
    assert gpu.by_kernels(layer, x) is None

    def by_kernels(x):
        parts = gpu_batches.sru_by_kernels(layer, x)
        assert {part.dtype for part in parts} == {dtype}
        assert all(part.is_contiguous(memory_format=input_options.get(
            'memory_format', torch.channels_last)) for part in parts)
        assert [part.shape[1] for part in parts] == [
            layer.cru.up_channels, layer.cru.low_channels]
        return torch.cat(parts, dim=1)

    by_kernels.parameters = layer.sru.parameters
    (out, grads), (expected, expected_grads) = (
        run(by_kernels, x), run(definition.sru, x.double()))
    for a, e in zip((out, *grads), (expected, *expected_grads)):
        assert_near(a, e, dtype)


def in_training(layer, definition):
    """Where the norms use the statistics of the batch."""
    return layer.train(), definition.train()


@pytest.mark.parametrize('options', [
    {}, dict(alpha=0.75, low_squeeze_base='low_channels'),
    dict(channels=24, out_channels=80, gn_groups=3)  # more than a block
], ids=str)
def test_batch_statistics(options):
    assert_equals_definition_in_training(options)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
def test_batch_statistics_in_half_precision(dtype):
    assert_equals_definition_in_training({}, dtype)


@pytest.mark.parametrize('input_options', [
    dict(memory_format=torch.contiguous_format), dict(size=(1, 70), batch=1),
    dict(size=(1, 2), batch=4)], ids=str)
def test_batch_statistics_of_other_maps(input_options):
    assert_equals_definition_in_training({}, **input_options)


def test_batch_statistics_of_many_blocks(monkeypatch):
    """More than are read at once."""
    monkeypatch.setattr(sys.modules[NormFusePlan.__module__], 'ROWS', 16)
    make_plan.cache_clear()
    assert_equals_definition_in_training({}, size=(17, 9), batch=6)
    make_plan.cache_clear()


def assert_equals_definition_in_training(options, dtype=torch.float32,
                                         **input_options):
    """The end of the CRU, of random maps; and running statistics."""
    layer, definition = in_training(*layers(**options))
    sizes = (layer.out_channels, layer.out_channels,
             layer.cru.pwc2.out_channels, layer.cru.squeeze_low.out_channels)
    x = maps(sum(sizes), dtype=dtype, **input_options)

    def by_kernels(x):
        out = gpu_batches.run_end_of_cru(layer.cru, *x.split(sizes, dim=1))
        assert out.dtype == dtype
        return out

    def defined(x):
        return gpu_batches.define_end_of_cru(definition.cru, x)

    for function, conv in ((by_kernels, layer), (defined, definition)):
        function.parameters = lambda cru=conv.cru: [
            *cru.bn1.parameters(), *cru.bn2.parameters()]
    (out, grads), (expected, expected_grads) = (
        run(by_kernels, x), run(defined, x.double()))
    for a, e in zip((out, *grads), (expected, *expected_grads)):
        assert_near(a, e, dtype)
    assert_same_running_statistics(layer, definition, dtype)


def assert_same_running_statistics(layer, definition, dtype=torch.float32):
    for a, e in zip(layer.buffers(), definition.buffers(), strict=True):
        assert_near(a, e.double(), dtype)


@pytest.mark.parametrize('stride', [1, 2])
def test_training_at_batch_statistics(stride, monkeypatch):
    """All by the kernels but the convolutions and the norms before them."""
    layer, definition = in_training(*layers(stride=stride))
    monkeypatch.setattr(layer.cru, 'reference', None)
    for name in ('fuse', 'bn1', 'bn2'):
        monkeypatch.setattr(layer.cru.get_submodule(name), 'forward', None)
    out, grads = run(layer, maps())
    expected, expected_grads = run(definition, maps().double())
    for a, e in zip((out, *grads), (expected, *expected_grads)):
        # a bias before such a norm has no gradient but rounding
        torch.testing.assert_close(a.double(), e, rtol=1e-4, atol=1e-4)
    assert_same_running_statistics(layer, definition)


def test_autocast_at_batch_statistics():
    """A float32 map: the SRU's output has autocast's dtype."""
    layer, definition = in_training(*layers())
    with torch.autocast(DEVICE, torch.bfloat16):
        parts = gpu_batches.sru_by_kernels(layer, maps())
        out = gpu_batches.cru_by_kernels(layer, *parts)
    assert {part.dtype for part in parts} == {out.dtype} == {torch.bfloat16}
    assert_near(out, definition(maps().double()), torch.bfloat16)


def test_running_statistics_that_begin_anywhere():
    """As in a buffer of all statistics; those are what is updated."""
    layer, definition = in_training(*layers())
    for norm in (layer.cru.bn1, layer.cru.bn2):
        for name in ('running_mean', 'running_var'):
            old = getattr(norm, name)
            new = torch.empty(len(old) + 1, device=DEVICE)[1:].copy_(old)
            assert new.data_ptr() % 16
            setattr(norm, name, new)
    layer(maps())
    definition(maps().double())
    assert_same_running_statistics(layer, definition)


class OtherNorm(torch.nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x)


def norm_without(name, value):
    """Something, which was set after it was made."""
    def make(channels):
        norm = torch.nn.BatchNorm2d(channels)
        setattr(norm, name, value)
        return norm
    return make


NORMS = dict(
    of_all_processes=torch.nn.SyncBatchNorm,
    somebody_elses=OtherNorm,
    cumulative=partial(torch.nn.BatchNorm2d, momentum=None),
    untracked=partial(torch.nn.BatchNorm2d, track_running_stats=False),
    no_longer_tracked=norm_without('track_running_stats', False),
    not_counted=norm_without('num_batches_tracked', None),
    without_parameters=partial(torch.nn.BatchNorm2d, affine=False),
    without_bias=norm_without('bias', None),
    of_groups=partial(torch.nn.GroupNorm, 1))


@pytest.mark.parametrize('norm', NORMS)
def test_norms_that_are_left_to_pytorch(norm):
    """The SRU before them is by the kernels."""
    layer = SCConv(16, 16, 3, padding=1, gn_groups=4,
                   norm_layer=NORMS[norm]).to(DEVICE)
    parts = gpu_batches.sru_by_kernels(layer, maps())
    assert parts is not None
    assert gpu_batches.cru_by_kernels(layer, *parts) is None


def test_norms_without_a_bias():
    layer, definition = layers(norm_layer=norm_without('bias', None))
    assert_near(layer(maps()), definition(maps().double()), torch.float32)


@pytest.mark.parametrize('training', [False, True])
def test_saved_in_another_layout(training):
    """As by hooks that offload or compress."""
    layer, definition = layers()
    for conv in (layer, definition):
        conv.train(training)
    with torch.autograd.graph.saved_tensors_hooks(
            torch.Tensor.contiguous, lambda saved: saved):
        _, grads = run(layer, maps())
    for a, e in zip(grads, run(definition, maps().double())[1]):
        torch.testing.assert_close(a.double(), e, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', [
    'sru.gn.weight', 'cru.bn1.weight', 'cru.bn2.bias', 'cru.bn1.running_mean'])
def test_vectors_that_are_not_contiguous(name):
    layer, definition = in_training(*layers())
    module, name = layer.get_submodule(name.rsplit('.', 1)[0]), \
        name.rsplit('.', 1)[1]
    vector = getattr(module, name)
    with torch.no_grad():
        strided = torch.stack([vector, -vector], dim=1)[:, 0]
    assert not strided.is_contiguous()
    setattr(module, name, torch.nn.Parameter(strided)
            if name in module._parameters else strided)
    assert_near(layer(maps()), definition(maps().double()), torch.float32)
    assert_same_running_statistics(layer, definition)


@pytest.mark.parametrize('training', [False, True])
def test_traced_by_make_fx(training):
    """Of tensors without memory it would get memory that nothing wrote."""
    layer, definition = layers()
    for conv in (layer, definition):
        conv.train(training)
    with torch.no_grad():
        traced = make_fx(layer)(maps())
        assert_near(traced(maps()), definition(maps().double()),
                    torch.float32)


@pytest.mark.parametrize('training', [False, True])
def test_first_use_under_checkpointing(training, nothing_compared):
    """Which counts what is saved."""
    layer, definition = layers()
    for conv in (layer, definition):
        conv.train(training)

    def checkpointed(x):
        return checkpoint(layer, x, use_reentrant=False)

    checkpointed.parameters = layer.parameters
    _, grads = run(checkpointed, maps())
    assert set(gpu.COMPARED.values()) == {True}
    for a, e in zip(grads, run(definition, maps().double())[1]):
        torch.testing.assert_close(a.double(), e, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('training', [False, True])
def test_first_use_with_weights_that_were_computed(training,
                                                   nothing_compared):
    layer, _ = layers()
    layer.train(training)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        torch.func.functional_call(
            layer, {name: 1. * p for name, p in layer.named_parameters()},
            maps())
    assert set(gpu.COMPARED.values()) == {True}


def test_the_comparison_leaves_generators_alone(monkeypatch,
                                                nothing_compared):
    """A seed for all of them would repeat the random numbers of a GPU."""
    seeds = []
    monkeypatch.setattr(torch.cuda, 'manual_seed_all', seeds.append)
    layer, x = layers()[0], maps()
    state = torch.get_rng_state()
    layer(x)
    assert gpu.COMPARED and not seeds
    assert torch.equal(torch.get_rng_state(), state)


def test_a_norm_that_is_frozen():
    layer, definition = in_training(*layers())
    for conv in (layer, definition):
        conv.cru.bn2.eval()
    assert_near(layer(maps()), definition(maps().double()), torch.float32)


def test_a_batch_of_one_value():
    layer, _ = in_training(*layers(stride=2))
    with pytest.raises(ValueError, match='more than 1 value per channel'):
        layer(maps(size=(2, 2), batch=1))


def test_a_compiler_gets_pytorchs_operators_at_batch_statistics():
    """It fuses them itself."""
    layer, definition = in_training(*layers())
    compiled, found = compile_and_count(layer)
    x = maps(memory_format=torch.contiguous_format)
    assert_near(compiled(x), definition(x.double()), torch.float32)
    assert not found


def test_a_sum_of_gamma_near_zero():
    """w_gamma is bounded, and no value or gradient is NaN."""
    layer, definition = layers()
    for module in (layer, definition):
        with torch.no_grad():
            weight = module.sru.gn.weight
            weight[-1] -= weight.sum()
    x = maps()
    out, grads = run(layer, x)
    expected, _ = run(definition, x.double())
    assert all(t.isfinite().all() for t in (out, *grads))
    # far from linear: an order of magnitude is what can be asked
    assert out.norm() < 10 * expected.norm()


def test_any_memory_layout():
    """Neither x nor its gradient needs to be dense."""
    layer, definition = layers()
    x = maps(size=(7, 10))[..., ::2]
    assert_near(layer(x), definition(x.double()), torch.float32)


@pytest.mark.parametrize('name', ['gwc', 'pwc2', 'squeeze_up'])
def test_any_layout_of_parameters(name):
    layer, definition = layers()
    conv = layer.cru.get_submodule(name)
    with torch.no_grad():
        transposed = conv.weight.transpose(0, 1).contiguous().transpose(0, 1)
    conv.weight = torch.nn.Parameter(transposed)
    assert not gpu.is_dense(conv.weight)
    x = maps()
    (_, grads), (_, expected) = run(layer, x), run(definition, x.double())
    for a, e in zip(grads, expected):
        assert_near(a, e, torch.float32)


def test_deployed():
    layer, definition = layers(stride=2)
    norm = randomise(torch.nn.BatchNorm2d(16)).eval()
    deployed = layer.deploy(norm.to(DEVICE))
    x = maps()
    expected = norm.double()(definition(x.double()))
    assert_near(deployed(x), expected, torch.float32)


def test_autocast():
    """A float32 map: the gate in float32, the rest in autocast's dtype."""
    layer, definition = layers()
    x = maps()
    with torch.autocast(DEVICE, torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    assert_near(out, definition(x.double()), torch.bfloat16)


def operators(graph):
    """The names of this package's operators in a graph, how often each."""
    return Counter(
        node.target._schema.name for node in graph.graph.nodes
        if 'mmdet_scconv' in str(node.target))


def compile_and_count(layer):
    """The layer as one graph, and the operators in all that is compiled."""
    found = Counter()

    def count(graph, inputs):
        found.update(operators(graph))
        return make_boxed_func(graph)

    return torch.compile(layer, backend=aot_autograd(fw_compiler=count),
                         fullgraph=True), found


def test_compiled_as_one_node():
    layer, _ = layers()
    compiled, found = compile_and_count(layer)
    x = maps()
    for a, e in zip(run(compiled, x)[1], run(layer, x)[1]):
        assert_near(a, e.double(), torch.float32)
    assert found == {'mmdet_scconv::scconv': 1,
                     'mmdet_scconv::scconv_backward': 1}
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), layer(x))


@pytest.mark.parametrize('memory_format', [
    torch.channels_last, torch.contiguous_format], ids=str)
def test_what_a_compiler_knows_of_the_operators(memory_format):
    """Sizes, strides and types of the outputs."""
    layer, _ = layers(stride=2)
    x = maps(memory_format=memory_format)
    parameters = [t.detach() for t in tensors_of(layer)]
    options = options_of(layer).flat()
    forward = (x, parameters, *options, torch.float32, [])
    y, *kept = triton_scconv.operators.forward_operator(*forward)
    backward = (torch.ones_like(y), x, kept, parameters, *options)
    for operator, inputs in (
            (triton_scconv.operators.forward_operator, forward),
            (triton_scconv.operators.backward_operator, backward)):
        torch.library.opcheck(
            operator, inputs, test_utils='test_faketensor')


def test_where_the_kernels_do_not_fit():
    layer, _ = layers()
    assert gpu.by_kernels(layer, maps(dtype=torch.float64)) is None
    assert gpu.by_kernels(layer, maps(batch=0)) is None
    assert gpu.by_kernels(layer.train(), maps()) is None


@pytest.mark.parametrize('channels', [8, 32])
@pytest.mark.parametrize('deployed', [False, True])
def test_wrong_inputs_raise_the_definitions_errors(channels, deployed):
    layer, _ = layers()
    if deployed:
        layer = layer.deploy(torch.nn.BatchNorm2d(16).to(DEVICE).eval())
    with torch.no_grad(), pytest.raises(RuntimeError):
        layer(maps(channels))


def test_parameters_on_another_device():
    """A layer of which a part was left behind."""
    layer, _ = layers()
    layer.cru.pwc2.to('meta')
    assert gpu.by_kernels(layer, maps()) is None


def test_replicas_of_a_data_parallel_model():
    """Their parameters are plain attributes."""
    layer, definition = layers()
    x = maps()
    for module in layer.modules():
        for name, parameter in [*module._parameters.items()]:
            if parameter is not None:
                del module._parameters[name]
                setattr(module, name, parameter.detach())
    assert gpu.by_kernels(layer, x) is None
    assert gpu_batches.sru_by_kernels(layer.train(), x) is None
    assert_near(layer(x), definition.train()(x.double()), torch.float32)


def test_numbers_that_are_set_later():
    layer, definition = layers()
    x = maps()
    with torch.no_grad():
        layer(x)
        for conv in (layer, definition):
            conv.sru.gate_threshold = 0.55
            conv.cru.bn1.eps = 0.5
        assert_near(layer(x), definition(x.double()), torch.float32)


def test_too_many_samples(monkeypatch):
    monkeypatch.setattr(gpu, 'GRID_LIMIT', 2)
    assert gpu.by_kernels(layers()[0], maps()) is None
    assert gpu.by_kernels(layers()[0], maps(batch=1)) is not None


def test_too_large_for_their_integers(monkeypatch):
    monkeypatch.setattr(gpu, 'LIMIT', 2 * 16 * 7 * 5)
    assert gpu.by_kernels(layers()[0], maps()) is None
    assert gpu.by_kernels(layers()[0], maps(batch=1)) is not None


@pytest.fixture
def nothing_compared(monkeypatch):
    monkeypatch.setattr(gpu, 'COMPARED', {})


def test_each_use_is_compared(nothing_compared):
    """Once; the backward pass only where there will be one."""
    layer, _ = layers(stride=2)
    layer(maps())
    with torch.no_grad():
        layer(maps())
    layer.requires_grad_(False)(maps(memory_format=torch.contiguous_format))
    deployed = layer.deploy(torch.nn.BatchNorm2d(16).eval().to(DEVICE))
    for _ in range(2):
        with torch.autocast(DEVICE, torch.bfloat16):
            deployed(maps())
    assert list(gpu.COMPARED.values()) == [True] * 3
    assert [use.gradients for _, use in gpu.COMPARED] == [True, False, False]


def test_turned_off(monkeypatch, nothing_compared):
    monkeypatch.setenv('MMDET_SCCONV_TRITON', '0')
    assert gpu.by_kernels(layers()[0], maps()) is None


def test_one_layer_without_kernels(monkeypatch):
    layer, definition = layers(implementation='torch')
    monkeypatch.setattr(gpu, 'run', None)
    assert_near(layer(maps()), definition(maps().double()), torch.float32)


@pytest.mark.parametrize('fault,message', [
    (lambda out: out * 1.5, 'differ from the definition by'),
    (lambda out: out * float('nan'), 'differ from the definition by inf'),
    (lambda out: 1 / 0, 'failed .ZeroDivisionError'),
])
def test_a_device_on_which_they_are_wrong(fault, message, monkeypatch,
                                          nothing_compared):
    """PyTorch's operators run, for good, after one warning."""
    layer, definition = layers()
    right = gpu.run
    monkeypatch.setattr(gpu, 'run', lambda *args: fault(right(*args)))
    with pytest.warns(UserWarning, match=message):
        out = layer(maps())
    assert_near(out, definition(maps().double()), torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        layer(maps())


def wrong_statistics(out, conv):
    conv.bn1.running_var.mul_(7)
    return out


@pytest.mark.parametrize('part,fault', [
    ('run_sru', lambda parts, *_: (parts[0] * 1.5, parts[1])),
    ('run_end_of_cru', lambda out, *_: out * 1.5),
    ('run_end_of_cru', wrong_statistics),
])
def test_a_device_on_which_a_part_is_wrong(part, fault, monkeypatch,
                                           nothing_compared):
    """At batch statistics SRU and CRU are compared on their own."""
    layer, definition = in_training(*layers())
    right = getattr(gpu_batches, part)
    monkeypatch.setattr(gpu_batches, part,
                        lambda *args: fault(right(*args), args[0]))
    with pytest.warns(UserWarning, match='differ from the definition by'):
        out = layer(maps())
    assert_near(out, definition(maps().double()), torch.float32)
    assert_same_running_statistics(layer, definition)
    assert sorted(gpu.COMPARED.values()) == [False, True]


class Counted(TorchDispatchMode):
    """Counts what runs on the device: PyTorch's operators that compute, and
    launches of Triton kernels."""

    ALLOCATE_OR_VIEW = ('empty', 'new_empty', 'empty_like', 'detach',
                        'slice', 'view', 'permute', 'alias')

    def __init__(self, monkeypatch):
        super().__init__()
        self.counts = []
        launch = triton_scconv.Launch.__call__

        def counted_launch(*args, **kwargs):
            self.counts.append('kernel')
            with _disable_current_modes():  # the interpreter's own copies
                launch(*args, **kwargs)

        monkeypatch.setattr(triton_scconv.Launch, '__call__', counted_launch)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name not in self.ALLOCATE_OR_VIEW:
            self.counts.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('batch', [1, 3])
def test_launches(batch, monkeypatch):
    """A dense convolution and its BatchNorm: 2; the reference: 36, and 59
    backward, without views."""
    layer, _ = layers()
    x = maps(batch=batch)
    with monkeypatch.context() as patch, Counted(patch) as inference, \
            torch.no_grad():
        layer(x)
    assert len(inference.counts) == 5, inference.counts
    x = x.requires_grad_()
    with monkeypatch.context() as patch, Counted(patch) as forward:
        out = layer(x)
    assert len(forward.counts) == 5, forward.counts
    grad = torch.randn_like(out)
    with monkeypatch.context() as patch, Counted(patch) as backward:
        torch.autograd.grad(out, [x, *layer.parameters()], grad)
    assert len(backward.counts) == 10, backward.counts


def test_launches_at_batch_statistics(monkeypatch):
    """The reference: 40, and 59 backward, without views."""
    layer, _ = layers()
    layer.train()
    x = maps().requires_grad_()
    with monkeypatch.context() as patch, Counted(patch) as forward:
        out = layer(x)
    assert len(forward.counts) == 14, forward.counts
    grad = torch.randn_like(out)
    with monkeypatch.context() as patch, Counted(patch) as backward:
        torch.autograd.grad(out, [x, *layer.parameters()], grad)
    assert len(backward.counts) == 16, backward.counts


@pytest.mark.skipif(DEVICE != 'cuda', reason='on a CPU there is such a loop')
def test_no_loop_over_samples_without_kernels(monkeypatch):
    """On a GPU its launches would take longer than what they save."""
    layer, _ = layers(implementation='torch')
    counts = []
    for batch in (2, 5):
        with monkeypatch.context() as patch, Counted(patch) as forward:
            layer(maps(batch=batch).requires_grad_())
        counts.append(forward.counts)
    assert counts[0] == counts[1]


@pytest.mark.skipif(DEVICE != 'cuda', reason='needs a GPU')
def test_cuda_graph():
    layer, definition = layers()
    x = maps()
    with torch.no_grad():
        layer(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = layer(x)
        x.copy_(maps().flip(0))
        graph.replay()
        assert_near(out, definition(x.double()), torch.float32)


def test_interpreter_is_asked_for_by_the_environment():
    assert gpu.INTERPRETED == (os.environ.get('TRITON_INTERPRET') == '1')
