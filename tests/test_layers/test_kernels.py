"""Where the compiled kernel is looked for, and how it is built."""
import os
import runpy
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPO, load_script

from mmdet_scconv.layers.kernels import cpu

INTEL = """processor\t: 0
vendor_id\t: GenuineIntel
flags\t\t: fpu sse2 avx avx2 avx512f
bugs\t\t: spectre_v1

processor\t: 1
flags\t\t: fpu sse2 avx avx2 avx512f
"""


def test_tests_have_their_own_cache():
    """Neither the user's kernel nor one of another test."""
    assert not cpu.is_loaded()
    assert not cpu.library_path().exists()
    assert Path.home() not in cpu.library_path().parents


def test_importing_loads_no_library(monkeypatch):
    """The first input that the kernel is for does."""
    loaded = []
    monkeypatch.setattr(torch.ops, 'load_library', loaded.append)
    monkeypatch.setattr(torch.library, 'register_fake', lambda *args: None)
    module = runpy.run_path(cpu.__file__)
    assert not loaded
    x = torch.ones(1, 2, 3, 3)
    assert not module['fits'](x)
    assert not loaded
    for _ in range(2):
        assert module['fits'](x.to(memory_format=torch.channels_last))
        assert loaded == [str(module['library_path']())]


def test_a_library_for_each_kind_of_cpu(tmp_path, monkeypatch):
    """Machines that share a home folder: both have AVX-512, the second lacks
    what the first one's compiler used."""
    paths = []
    for missing in ('', ' avx512f', ' avx2'):
        cpuinfo = tmp_path / 'cpuinfo'
        cpuinfo.write_text(INTEL.replace(missing, ''))
        features = cpu.cpu_features(str(cpuinfo))
        monkeypatch.setattr(cpu, 'cpu_features', lambda f=features: f)
        paths.append(cpu.library_path())
        monkeypatch.undo()
    assert len(set(paths)) == 3


@pytest.mark.parametrize('text,expected', [
    (INTEL, 'flags\t\t: fpu sse2 avx avx2 avx512f\n'),
    ('processor\t: 0\nFeatures\t: fp asimd sve\n',
     'Features\t: fp asimd sve\n'),
])
def test_cpu_features(text, expected, tmp_path):
    (tmp_path / 'cpuinfo').write_text(text)
    assert cpu.cpu_features(str(tmp_path / 'cpuinfo')) == expected


def test_cpu_features_where_the_system_lists_none(tmp_path):
    assert os.uname().machine in cpu.cpu_features(str(tmp_path / 'none'))


@pytest.fixture
def build(monkeypatch):
    """The tool, in this process; what it ends with."""
    tool = load_script(REPO / 'tools/misc/build_kernels.py')
    monkeypatch.setattr(sys, 'argv', ['build_kernels.py'])
    # torch gives a library that is built again in a process another name: as
    # in a new process, also for the tests that follow
    from torch.utils import cpp_extension
    monkeypatch.setattr(cpp_extension, 'JIT_EXTENSION_VERSIONER',
                        type(cpp_extension.JIT_EXTENSION_VERSIONER)())

    def run():
        with pytest.raises(SystemExit) as error:
            tool.main()
        return str(error.value)

    return run


def test_what_is_built_is_not_built_again(monkeypatch, capsys):
    monkeypatch.setattr(cpu, 'is_loaded', lambda: True)
    monkeypatch.setattr(sys, 'argv', ['build_kernels.py'])
    monkeypatch.setenv('PATH', '')
    load_script(REPO / 'tools/misc/build_kernels.py').main()
    assert str(cpu.library_path()) in capsys.readouterr().out


def test_no_compiler_is_one_line(build, tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    assert build().startswith('No C++ compiler (c++). On Debian')


def test_a_cache_that_cannot_be_written_to_is_one_line(build, tmp_path,
                                                       monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    assert str(tmp_path / 'file') in build()


def test_no_home_folder(build, without_home):
    assert not cpu.load_library()
    assert build().endswith('Set $XDG_CACHE_HOME')


@pytest.fixture
def failing_compiler(tmp_path, monkeypatch):
    """It is there, and fails; an empty cache."""
    compiler = tmp_path / 'g++'
    compiler.write_text('#!/bin/sh\ntest "$1" = -MMD || exec true\n'
                        'echo "error: no room"\nexit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setenv('CXX', str(compiler))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))


def test_a_compiler_that_does_not_run(build, tmp_path, monkeypatch):
    monkeypatch.setenv('CXX', 'false')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert "'false'" in build()


@pytest.mark.timeout(60)
def test_a_killed_build_is_not_waited_for(build, failing_compiler):
    """It leaves torch's lock."""
    lock = cpu.library_path().with_name('lock')
    lock.parent.mkdir(parents=True)
    lock.touch()
    assert 'error: no room' in build()


def test_a_failed_build_says_why(build, failing_compiler):
    before = os.environ['PATH']
    assert 'error: no room' in build()
    assert os.environ['PATH'] == before
