"""Inputs and modules for which the definition runs in place of the fused form;
and that the fused form keeps nothing if there is no backward pass."""
import pytest
import torch
from reference import randomise
from torch import nn
from torch.nn.utils import parametrizations, prune

from mmdet_scconv.layers import SCConv
from mmdet_scconv.layers.fused import affine_cru


@pytest.fixture
def layer():
    return randomise(SCConv(32, 32, 3, padding=1, bias=False)).eval()


@pytest.mark.parametrize('training', [False, True])
def test_empty_batch(layer, training):
    """Mask heads get batches without boxes."""
    x = torch.zeros(0, 32, 7, 5, requires_grad=True)
    out = layer.train(training)(x)
    assert out.shape == x.shape
    out.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize('training', [False, True])
def test_on_the_meta_device(layer, training):
    """Where FLOPs of large models are counted."""
    x = torch.empty(2, 32, 7, 5, device='meta', requires_grad=True)
    out = layer.train(training).to('meta')(x)
    assert out.shape == x.shape and out.is_meta
    out.sum().backward()
    assert x.grad.is_meta


def hook_of(layer, child, kind):
    """Register a hook that counts its calls; the counts."""
    calls = []
    getattr(layer.get_submodule(child), f'register_{kind}_hook')(
        lambda *args: calls.append(child))
    return calls


@pytest.mark.parametrize('kind', ['forward_pre', 'forward',
                                  'full_backward_pre', 'full_backward'])
@pytest.mark.parametrize('child', ['sru', 'sru.gn', 'cru', 'cru.gwc',
                                   'cru.squeeze_low_bn'])
def test_hooks_run(layer, child, kind):
    calls = hook_of(layer, child, kind)
    layer(torch.randn(2, 32, 7, 5).requires_grad_()).sum().backward()
    assert calls == [child]


def test_pruned_weights_follow_their_parameters(layer):
    """A forward pre-hook computes what is pruned from what is trained."""
    prune.random_unstructured(layer.cru.gwc, 'weight', 0.5)
    x = torch.randn(2, 32, 7, 5)
    before = layer(x)
    with torch.no_grad():
        layer.cru.gwc.weight_orig.mul_(2)
    assert not torch.allclose(layer(x), before)


def test_parametrizations(layer):
    parametrizations.weight_norm(layer.cru.pwc1)
    x = torch.randn(2, 32, 7, 5)
    before = layer(x)
    with torch.no_grad():
        layer.cru.pwc1.parametrizations.weight.original0.mul_(2)
    assert not torch.allclose(layer(x), before)


@pytest.fixture
def per_sample(monkeypatch):
    """Calls of the form that is made for gradients."""
    calls = []
    fuse_samples = affine_cru.fuse_samples
    monkeypatch.setattr(
        affine_cru, 'fuse_samples',
        lambda *args: [calls.append(1), fuse_samples(*args)][1])
    return calls


def test_frozen_layers_run_as_in_inference(layer, per_sample):
    """A detector's frozen stages: gradients are on, and nothing needs one."""
    layer.requires_grad_(False)
    x = torch.randn(3, 32, 7, 5)
    out = layer(x)
    assert not out.requires_grad and not per_sample
    with torch.no_grad():
        torch.testing.assert_close(out, layer(x), rtol=0, atol=0)


@pytest.mark.parametrize('needs', ['x', 'parameters', 'one parameter'])
def test_a_gradient_that_is_needed(layer, per_sample, needs):
    layer.requires_grad_(needs == 'parameters')
    x = torch.randn(3, 32, 7, 5, requires_grad=needs == 'x')
    if needs == 'one parameter':
        layer.cru.bn2.bias.requires_grad_()
    out = layer(x)
    assert out.requires_grad and per_sample
    out.sum().backward()


def test_a_module_around_it_may_have_hooks(per_sample):
    """They wait for the call of the layer itself, not of its submodules."""
    model = nn.Sequential(
        randomise(SCConv(32, 32, 3, padding=1, bias=False)).eval())
    calls = hook_of(model, '0', 'forward_pre')
    model(torch.randn(2, 32, 7, 5))
    assert calls and per_sample
