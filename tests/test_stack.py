"""What a user reads where the MM stack is missing, too old or broken."""
import importlib
from types import SimpleNamespace

import pytest

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


@pytest.mark.parametrize('name', ['mmengine', 'mmcv', 'mmdet'])
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
