"""Definitions of the layers are written out with these, in float64, and
compared by them."""
import itertools
import math

import pytest
import torch
from torch import nn


def randomise(module, seed=0):
    """Random weights, non-trivial BN statistics, gamma and beta of any sign.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor, scale=1.):
        tensor.copy_(scale * torch.randn(
            tensor.shape, generator=generator, dtype=torch.float64))

    with torch.no_grad():
        for m in module.modules():
            for p in m.parameters(recurse=False):
                normal(p, 1 if p.dim() == 1 else p[0].numel()**-0.5)
            if isinstance(m, nn.BatchNorm2d):
                normal(m.running_mean)
                m.running_var.copy_(0.5 + torch.rand(
                    m.num_features, generator=generator))
    return module


def float64_layer(layer_type, in_channels, out_channels, size, training,
                  **options):
    """A randomised layer without bias, and an input that wants a gradient."""
    layer = layer_type(
        in_channels,
        out_channels,
        **dict(dict(kernel_size=3, padding='same', bias=False), **options))
    randomise(layer).double().train(training)
    x = torch.randn(
        3, in_channels, *size, dtype=torch.float64, requires_grad=True)
    return layer, x


def ref_group_norm(x, groups, gamma, beta, eps=1e-5):
    out = torch.empty_like(x)
    width = x.shape[1] // groups
    for n, g in itertools.product(range(x.shape[0]), range(groups)):
        part = slice(g * width, (g + 1) * width)
        values = x[n, part]
        mean = values.sum() / values.numel()
        var = ((values - mean)**2).sum() / values.numel()
        for c in range(g * width, (g + 1) * width):
            out[n, c] = (x[n, c] - mean) / (var + eps).sqrt() * gamma[c] + \
                beta[c]
    return out


def ref_conv(x, weight, bias=None, stride=1, dilation=1, groups=1):
    """"Same" convolution as a sum over taps of shifted, strided inputs."""
    kernel = weight.shape[-1]
    pad = dilation * (kernel - 1) // 2
    n, c, h, w = x.shape
    padded = x.new_zeros(n, c, h + 2 * pad, w + 2 * pad)
    padded[:, :, pad:pad + h, pad:pad + w] = x
    out_per_group, in_per_group = weight.shape[0] // groups, c // groups
    out = 0
    for i, j in itertools.product(range(kernel), range(kernel)):
        tap = padded[:, :, i * dilation:i * dilation + h:stride,
                     j * dilation:j * dilation + w:stride]
        out = out + torch.cat([
            torch.einsum(
                'oc,nchw->nohw',
                weight[g * out_per_group:(g + 1) * out_per_group, :, i, j],
                tap[:, g * in_per_group:(g + 1) * in_per_group])
            for g in range(groups)
        ], 1)
    return out if bias is None else out + bias.view(1, -1, 1, 1)


def ref_bn(x, bn):
    if bn.training:
        mean = x.mean((0, 2, 3))
        var = ((x - mean.view(1, -1, 1, 1))**2).mean((0, 2, 3))
    else:
        mean, var = bn.running_mean, bn.running_var
    scale = bn.weight / (var + bn.eps).sqrt()
    return (x - mean.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1) + \
        bn.bias.view(1, -1, 1, 1)


def ref_pool(x, stride):
    """Mean of stride x stride windows, those at the border cut off."""
    if stride == 1:
        return x
    rows = [
        torch.stack([
            x[:, :, i:i + stride, j:j + stride].mean((2, 3))
            for j in range(0, x.shape[3], stride)
        ], -1) for i in range(0, x.shape[2], stride)
    ]
    return torch.stack(rows, -2)


def ref_upsample(x, size):
    """Each value twice in both directions, cut to ``size``."""
    rows = [i // 2 for i in range(size[0])]
    columns = [j // 2 for j in range(size[1])]
    return x[:, :, rows][:, :, :, columns]


def ref_fuse(y1, y2):
    e1, e2 = (torch.exp(y.mean((2, 3), keepdim=True)) for y in (y1, y2))
    return e1 / (e1 + e2) * y1 + e2 / (e1 + e2) * y2


def assert_equals_definition(layer, x, expected, out_channels, stride=1):
    """Compare a layer's output and gradients with its definition's.

    Args:
        layer: In float64.
        x: Input that requires a gradient.
        expected: The definition's output for ``x``.
    """
    actual = layer(x)
    assert actual.shape == (x.shape[0], out_channels, *(math.ceil(
        s / stride) for s in x.shape[2:]))
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)

    weights = torch.randn_like(expected)
    inputs = [x, *layer.parameters()]
    expected_grads = torch.autograd.grad((expected * weights).sum(), inputs)
    actual_grads = torch.autograd.grad((actual * weights).sum(), inputs)
    for a, e in zip(actual_grads, expected_grads):
        torch.testing.assert_close(a, e, rtol=1e-8, atol=1e-10)


def assert_option_is_named(layer_type, name, value, options):
    """An invalid option's error names it, its value and what is allowed."""
    options = dict(
        dict(in_channels=32, out_channels=32, kernel_size=3, padding=1),
        **options)
    with pytest.raises(ValueError) as error:
        layer_type(**options)
    assert str(error.value).startswith(f'{name}={value!r} is not valid: ')
    assert len(str(error.value)) > len(f'{name}={value!r} is not valid: ')
