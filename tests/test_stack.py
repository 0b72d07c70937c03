"""The messages if the MM stack is missing, too old or broken."""
import importlib
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import REPO

from mmdet_scconv import stack


@pytest.fixture
def imports(monkeypatch):
    """Replaces the result of importing a module, or raises it."""
    replaced = {}
    original = importlib.import_module

    def import_module(name):
        result = replaced.get(name)
        if isinstance(result, Exception):
            raise result
        return result or original(name)

    monkeypatch.setattr(stack.importlib, 'import_module', import_module)
    return replaced


def test_this_stack_is_fine():
    stack.check_stack()


@pytest.mark.parametrize('name', ['mmengine', 'mmcv', 'mmdet'])
def test_missing(name, imports):
    imports[name] = ModuleNotFoundError(f"No module named '{name}'", name=name)
    with pytest.raises(ImportError) as error:
        stack.check_stack()
    assert f'needs {name}>={stack.MINIMUM[name]}, which is not installed' \
        in str(error.value)
    assert f'pip install --no-build-isolation {stack.MM_STACK["mmcv"]}' in str(
        error.value)


@pytest.mark.parametrize('name', ['torch', 'mmengine', 'mmcv', 'mmdet'])
def test_too_old(name, imports):
    imports[name] = SimpleNamespace(__version__='0.7.4rc1')
    with pytest.raises(
            ImportError,
            match=f'needs {name}>={stack.MINIMUM[name]}, found 0.7.4rc1'):
        stack.check_stack()


def test_a_dependency_of_mmdet_is_missing(imports):
    imports['mmdet'] = ModuleNotFoundError(
        "No module named 'shapely'", name='shapely')
    with pytest.raises(
            ImportError,
            match="mmdet is installed but cannot be imported: .*'shapely'"):
        stack.check_stack()


def test_opencv_without_libgl(imports):
    imports['mmcv'] = ImportError(
        'libGL.so.1: cannot open shared object file: No such file')
    with pytest.raises(ImportError, match='opencv-python-headless'):
        stack.check_stack()


def test_mmcv_without_operators(imports):
    imports['mmcv._ext'] = ModuleNotFoundError(
        "No module named 'mmcv._ext'", name='mmcv._ext')
    with pytest.raises(ImportError, match='mmcv has no compiled operators'):
        stack.check_stack()


@pytest.mark.parametrize('version,expected', [('2.3.6', (2, 3, 6)),
                                              ('2.0.0rc4', (2, 0, 0)),
                                              ('2.13.0+cpu', (2, 13, 0))])
def test_release(version, expected):
    assert stack.release(version) == expected


@pytest.mark.parametrize('gpu,compiled,fails', [
    (True, 'not available', True),
    (True, '13.0', False),
    (False, 'not available', False),
])
def test_gpu_without_cuda_operators(gpu, compiled, fails, monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: gpu)
    monkeypatch.setattr('mmcv.ops.get_compiling_cuda_version',
                        lambda: compiled)
    if fails:
        with pytest.raises(RuntimeError, match='without CUDA operators'):
            stack.check_cuda_operators()
    else:
        stack.check_cuda_operators()


HIDDEN = """
import sys
for name in {hidden!r}:
    sys.modules[name] = None  # as if it was not installed
sys.path.insert(0, {repo!r})
"""
PLAIN = """
import mmdet_scconv, torch
from mmdet_scconv.layers import SCConv
import mmdet_scconv.layers as layers
layer = SCConv(64, 128, kernel_size=3, stride=2, padding=1)
out = layer(torch.randn(2, 64, 14, 14))
out.mean().backward()
assert out.shape == (2, 128, 7, 7)
assert all(p.grad is not None for p in layer.parameters())
for name in layers.__all__:
    if name not in ('SRU', 'CRU'):
        conv = getattr(layers, name)(64, 64, 3, padding=1)
        shape = conv(torch.randn(1, 64, 8, 8)).shape
        assert shape == (1, conv.out_channels, 8, 8), name
loaded = {name.split('.')[0] for name in sys.modules}
assert not loaded & {'mmengine', 'mmcv', 'mmdet', 'cv2'} - hidden, loaded
"""


def run_without(hidden, code):
    """Run code in a fresh process in which packages are not installed."""
    setup = HIDDEN.format(hidden=hidden, repo=str(REPO))
    return subprocess.run(
        [sys.executable, '-c', f'{setup}hidden = set({hidden!r})\n{code}'],
        capture_output=True,
        text=True)


def test_layers_need_torch_alone():
    hidden = ['mmengine', 'mmcv', 'mmdet', 'cv2', 'numpy']
    done = run_without(
        hidden, f'{PLAIN}print("works")\nmmdet_scconv.backbones')
    assert done.stdout == 'works\n', done.stderr
    assert 'needs mmengine>=' in done.stderr
    assert 'make env' in done.stderr.splitlines()[-4]


@pytest.mark.parametrize('missing', ['mmcv', 'mmdet'])
def test_with_mmengine_the_whole_stack_is_needed(missing, imports):
    imports[missing] = ModuleNotFoundError(
        f"No module named '{missing}'", name=missing)
    assert not stack.is_torch_alone()


def test_mmcv_without_mmengine_is_an_error(imports):
    """It is no plain PyTorch: something went wrong."""
    for name in ('mmengine', 'mmdet'):
        imports[name] = ModuleNotFoundError(
            f"No module named '{name}'", name=name)
    assert not stack.is_torch_alone()
    imports['mmcv'] = ModuleNotFoundError(
        "No module named 'mmcv'", name='mmcv')
    assert stack.is_torch_alone()


def test_torch_too_old_for_the_layers(imports):
    imports['torch'] = SimpleNamespace(__version__='2.10.1+cpu')
    with pytest.raises(ImportError, match='needs torch>=2.11.0, found 2.10.1'):
        stack.check_torch()


def test_convolutions_are_timed_with_torch_alone():
    """By the benchmark tool, which says what a config needs."""
    tool = REPO / 'tools/analysis_tools/benchmark.py'
    code = 'import runpy\n' + ''.join(
        f'sys.argv = ["benchmark.py", "dense", "scconv", {config}"--part", '
        '"layer", "--shape", "64", "96", "--rounds", "1", "--device", "cpu"]\n'
        f'runpy.run_path({str(tool)!r}, run_name="__main__")\n'
        for config in ('', '"config.py", '))
    done = run_without(['mmengine', 'mmcv', 'mmdet', 'cv2'], code)
    assert 'layer, inference, eager, fp32, 1x64x96, cpu' in done.stdout
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        'benchmark: config.py: a config needs MMD')
