"""Backbones with drawn options: valid ones work, others name the argument.

``pytest --hypothesis-profile=slow`` draws hundreds.
"""
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS

BACKBONES = [
    'SCConvResNet', 'SCConvResNeXt', 'SPConvResNet', 'SlimConvResNet',
    'GhostResNet', 'TiedConvResNet', 'OctConvResNet'
]
# options of each convolution that fit widths of 16 and its doubles
CONV2 = dict(
    SCConvResNet=st.fixed_dictionaries({}, optional=dict(
        alpha=st.sampled_from([0.25, 0.5, 0.75]),
        low_squeeze_base=st.sampled_from(['out_channels', 'low_channels']),
        gn_groups=st.sampled_from([1, 4, 16]),
        implementation=st.sampled_from(['fused', 'reference']),
        units=st.just('S+C'))),
    SCConvResNeXt=st.fixed_dictionaries({}, optional=dict(
        alpha=st.just(0.5), gwc_groups=st.sampled_from([1, 2]))),
    SPConvResNet=st.fixed_dictionaries({}, optional=dict(
        alpha=st.sampled_from([0.25, 0.5, 0.75]))),
    SlimConvResNet=st.fixed_dictionaries({}, optional=dict(
        k=st.sampled_from(['1', '4/3', '8/3']))),
    GhostResNet=st.fixed_dictionaries({}, optional=dict(
        ratio=st.sampled_from([2, 4]))),
    TiedConvResNet=st.fixed_dictionaries({}, optional=dict(
        blocks=st.sampled_from([1, 2, 4]))),
    OctConvResNet=st.fixed_dictionaries({}, optional=dict(
        alpha=st.sampled_from([0.25, 0.5]))))
every_backbone = pytest.mark.parametrize('name', BACKBONES)
# a backbone takes longer than a layer
fewer = settings(max_examples=max(settings.default.max_examples // 5, 3))


@st.composite
def valid_options(draw, name):
    stages = draw(st.integers(1, 4))
    deep = name in ('SCConvResNeXt', 'SlimConvResNet')
    options = dict(
        depth=50 if deep else draw(st.sampled_from([18, 34, 50])),
        base_channels=16,
        num_stages=stages,
        strides=draw(
            st.tuples(*[st.sampled_from([1, 2])] * stages)),
        dilations=draw(
            st.tuples(*[st.sampled_from([1, 2])] * stages)),
        out_indices=tuple(
            sorted(
                draw(
                    st.sets(st.integers(0, stages - 1), min_size=1)))),
        style=draw(st.sampled_from(['pytorch', 'caffe'])),
        deep_stem=draw(st.booleans()),
        avg_down=draw(st.booleans()),
        frozen_stages=draw(st.integers(-1, stages - 1)),
        norm_eval=draw(st.booleans()),
        freeze_without_weights=True,
        with_cp=draw(st.booleans()),
        norm_cfg=dict(type='BN', requires_grad=draw(st.booleans())),
        stages_with_swap=draw(st.tuples(*[st.booleans()] * stages)),
        conv2_cfg=draw(CONV2[name]))
    if name == 'SCConvResNeXt':
        options.update(
            draw(
                st.sampled_from([
                    {}, dict(groups=4, base_width=64),
                    dict(groups=8, base_width=32)
                ])))
    return options


def shapes(options, size):
    """As documented: (C, H, W) of the stages."""
    bottleneck = options['depth'] >= 50
    size = [math.ceil(length / 4) for length in size]
    for stage, stride in enumerate(options['strides']):
        size = [math.ceil(length / stride) for length in size]
        if stage in options['out_indices']:
            width = options['base_channels'] * 2**stage
            yield (width * (4 if bottleneck else 1), *size)


@every_backbone
@fewer
@given(data=st.data())
def test_valid_options(name, data):
    options = data.draw(valid_options(name), label='options')
    size = data.draw(
        st.tuples(st.integers(17, 40), st.integers(17, 40)), label='size')
    backbone = MODELS.build(dict(type=name, **options))
    backbone.init_weights()
    for training in (True, False):
        outs = backbone.train(training)(torch.randn(3, 3, *size))
        assert [tuple(out.shape) for out in outs] == [
            (3, *shape) for shape in shapes(options, size)
        ]
        assert all(out.isfinite().all() for out in outs)
        loss = sum(out.square().mean() for out in outs)
        if loss.requires_grad:  # at least one parameter must not be frozen
            loss.backward()
        last = options['out_indices'][-1]
        for key, parameter in backbone.named_parameters():
            reached = not key.startswith(
                tuple(f'layer{i + 1}' for i in range(last + 1, 4)))
            if parameter.requires_grad and reached:
                assert parameter.grad is not None, key
                assert parameter.grad.isfinite().all(), key
    frozen = [f'layer{i}.' for i in range(1, options['frozen_stages'] + 1)]
    assert not any(p.requires_grad for key, p in backbone.named_parameters()
                   if key.startswith(tuple(frozen)))


@every_backbone
@fewer
@given(data=st.data())
def test_one_invalid_option(name, data):
    options = data.draw(valid_options(name), label='options')
    stages = options['num_stages']
    argument, value = data.draw(
        st.sampled_from([
            ('stages_with_swap', (True, ) * (stages - 1)),
            ('scales', 4),
            ('radix', 2),
            ('type', 'Conv2d'),
            ('groups', 3),
            *({
                'GhostResNet': [('ratio', 0), ('dw_size', 2)],
                'TiedConvResNet': [('blocks', 0)],
                'SlimConvResNet': [('k', '2')],
            }.get(name, [('alpha', 1.5), ('alpha', 0)])),
        ]),
        label='invalid')
    if argument in ('stages_with_swap', 'scales', 'radix'):
        options[argument] = value
    else:
        options['stages_with_swap'] = (True, ) * stages
        options['conv2_cfg'] = {**options['conv2_cfg'], argument: value}
    with pytest.raises(ValueError, match=f'{argument}={value!r}'.replace(
            '(', r'\(').replace(')', r'\)')):
        MODELS.build(dict(type=name, **options))
