"""The decisions of the environment tool; `make` runs the whole of it."""
import pytest
from conftest import REPO, load_script


@pytest.fixture
def make_env():
    return load_script(REPO / 'tools/misc/make_env.py')


class Environment:
    """Answers what torch says of the machine."""

    def __init__(self, answer):
        self.answer = answer

    def ask(self, code):
        return self.answer


def test_no_gpu(make_env):
    assert make_env.check_gpu(Environment('False None None')) is False


def test_gpu_without_a_compiler(make_env, tmp_path):
    for cuda_home in (None, tmp_path):
        with pytest.raises(SystemExit) as error:
            make_env.check_gpu(Environment(f'True 13.0 {cuda_home}'))
        message = str(error.value)
        assert 'no CUDA compiler (nvcc)' in message
        assert 'install the CUDA toolkit 13.0' in message
        assert 'CUDA_VISIBLE_DEVICES=' in message


def test_gpu_with_a_compiler(make_env, tmp_path):
    (tmp_path / 'bin').mkdir()
    (tmp_path / 'bin' / 'nvcc').touch()
    assert make_env.check_gpu(Environment(f'True 13.0 {tmp_path}')) is True


def test_pinned_requirements(make_env):
    """What the tool compares with installed versions is pinned exactly."""
    stack = make_env.load_stack()
    for requirement in (stack.TORCH, stack.OPENCV, *stack.MM_STACK.values()):
        assert requirement.count('==') == 1


def test_no_compiler(make_env, monkeypatch):
    monkeypatch.setattr(make_env.shutil, 'which', lambda name: None)
    with pytest.raises(SystemExit, match='apt install build-essential'):
        make_env.check_compiler()


def test_a_failed_build_shows_its_end(make_env, tmp_path, capsys):
    environment = make_env.Environment(tmp_path)
    python = tmp_path / 'bin' / 'python'
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "[1/2] c++ a"\necho "error: no room"\n'
                      'exit 1\n')
    python.chmod(0o755)
    with pytest.raises(SystemExit, match='could not be installed'):
        make_env.install_mmcv(environment, 'mmcv==0', [])
    assert 'error: no room' in capsys.readouterr().out
    assert 'error: no room' in (tmp_path / 'mmcv_build.log').read_text()
