"""One line says how to get the kernel for CPUs where it is missing."""
import re

import pytest

from mmdet_scconv.backbones import SCConvResNet, SPConvResNet, missing_kernel
from mmdet_scconv.layers.kernels import cpu


@pytest.fixture
def lines(monkeypatch):
    """What is logged."""
    found = []
    monkeypatch.setattr(missing_kernel, 'print_log',
                        lambda line, **options: found.append(line))
    monkeypatch.setattr(missing_kernel, 'get_device', lambda: 'cpu')
    monkeypatch.setattr(cpu, 'is_loaded', lambda: False)
    missing_kernel.log_once.cache_clear()
    yield found
    missing_kernel.log_once.cache_clear()


def start(backbone=SCConvResNet, **options):
    """As a training, then a test does, twice."""
    model = backbone(depth=18, base_channels=16, stem_channels=16, **options)
    for mode in (True, False) * 2:
        model.train(mode)


def test_one_line(lines, monkeypatch):
    """Whose command compiles the kernel."""
    start()
    line, = lines
    assert '\n' not in line
    built = []
    monkeypatch.setattr(cpu, 'build', lambda: built.append('a path'))
    code = re.search('python -c "(.*)"', line).group(1)
    exec(code, {})  # noqa: S102 (our own)
    assert built


@pytest.mark.parametrize('target,name,value', [
    (cpu, 'is_loaded', True),
    (missing_kernel, 'get_device', 'cuda'),
    (missing_kernel, 'is_main_process', False),
])
def test_no_line_where_the_kernel_is_not_needed(lines, monkeypatch, target,
                                                name, value):
    monkeypatch.setattr(target, name, lambda: value)
    start()
    assert not lines


@pytest.mark.parametrize('backbone,options', [
    (SPConvResNet, {}),
    (SCConvResNet, dict(stages_with_swap=(False, ) * 4)),
    (SCConvResNet, dict(conv2_cfg=dict(implementation='reference'))),
    (SCConvResNet, dict(conv2_cfg=dict(units='C'))),
])
def test_no_line_where_the_kernel_is_not_used(lines, backbone, options):
    start(backbone, **options)
    assert not lines
