"""The fused form of SCConv against the reference form, kernel included.

That both equal the definition in float64 is in test_scconv.py.
"""
import copy

import pytest
import torch
from reference import randomise

from mmdet_scconv.layers import SCConv, kernels


@pytest.fixture(scope='module')
def kernel():
    """The compiled kernel, for this module's tests."""
    if not kernels.BUILT:
        kernels.build()
    assert kernels.load_library()


def pair(training, seed=0, **options):
    """One layer twice: fused and reference."""
    fused = SCConv(64, 64, 3, padding=1, bias=False, **options)
    randomise(fused, seed).train(training)
    reference = copy.deepcopy(fused)
    reference.implementation = 'reference'
    return fused, reference


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
    {}, dict(stride=2), dict(alpha=0.75), dict(low_width='text', stride=2)
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
    large against its spread in some channels."""
    monkeypatch.setattr(kernels, 'BUILT', True)
    fused, reference = pair(training, gate_threshold=threshold)
    x = torch.randn(batch, 64, *size) + torch.arange(64).view(-1, 1, 1) % 5
    x = x.to(memory_format=torch.channels_last)
    assert kernels.fits(x)
    (a, grads_a) = run(fused, x)
    (e, grads_e) = run(reference.double(), x.double())
    torch.testing.assert_close(a.double(), e, rtol=1e-4, atol=1e-4)
    for actual, expected in zip(grads_a, grads_e):
        # a bias before a BatchNorm in training has no gradient but rounding
        scale = max(expected.norm(), 0.1 * grads_e[0].norm())
        assert (actual.double() - expected).norm() < 1e-4 * scale


def test_kernel_is_what_runs(kernel, monkeypatch):
    monkeypatch.setattr(kernels, 'BUILT', True)
    fused, _ = pair(False)
    x = torch.randn(1, 64, 8, 8).to(memory_format=torch.channels_last)
    with torch.profiler.profile() as profile, torch.no_grad():
        fused(x)
    assert 'mmdet_scconv::sru_gate' in {e.name for e in profile.events()}


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


def test_saves_no_more_than_its_input():
    """Of the SRU, the backward pass keeps the input alone."""
    fused, _ = pair(False)
    x = torch.randn(1, 64, 8, 8, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(
            lambda t: saved.append(t) or t, lambda t: t):
        fused.sru.fused_forward(x)
    maps = {t.data_ptr() for t in saved if t.dim() == 4}
    assert maps == {x.data_ptr()}


def test_implementation_is_checked():
    with pytest.raises(ValueError, match="implementation='fast' is not valid"):
        SCConv(64, 64, 3, padding=1, implementation='fast')
