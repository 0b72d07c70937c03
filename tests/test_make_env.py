"""The decisions of the environment tool; `make` runs the whole of it."""
import sys

import pytest
from conftest import REPO, load_script


@pytest.fixture
def make_env():
    return load_script(REPO / 'tools/misc/make_env.py')


class Environment:
    """Answers for torch what it sees of the machine."""

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


@pytest.fixture
def environment(make_env, tmp_path):
    """Its Python is a stand-in that knows two commands of pip. What it is
    asked for is in ``calls``; ``install`` is a script, by CFLAGS."""
    python = tmp_path / 'env' / 'bin' / 'python'
    python.parent.mkdir(parents=True)

    def program(install, cached=''):
        python.write_text(f"""#!/bin/sh
case "$*" in
*"cache list"*) echo "{cached}";;
*install*) echo "install CFLAGS=$CFLAGS" >> {tmp_path}/calls; {install};;
*include_paths*) echo /nowhere;;
esac
""")
        python.chmod(0o755)
        (tmp_path / 'calls').write_text('')
        return make_env.Environment(tmp_path / 'env')

    return program


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """A stand-in for gcc that writes what it is asked to."""

    def write(macros='#define __GNUC__ 12', code=0):
        path = tmp_path / 'a compiler'
        path.write_text(f"""#!/bin/sh
case "$*" in
*-dM*) echo "{macros}"; exit;;
esac
echo "$*" >> {tmp_path}/compiled
for last; do :; done
test {code} = 0 || {{ echo no room >&2; exit {code}; }}
echo header > "$last"
""")
        path.chmod(0o755)
        monkeypatch.setenv('CXX', f"'{path}'")
        monkeypatch.setenv('TMPDIR', str(tmp_path / 'tmp'))
        (tmp_path / 'tmp').mkdir(exist_ok=True)

    monkeypatch.setattr('tempfile.tempdir', None)
    monkeypatch.delenv('CFLAGS', raising=False)
    for device in ('CUDA', 'MLU', 'MUSA', 'NPU'):
        monkeypatch.delenv(f'FORCE_{device}', raising=False)
    write()
    return write


HEADER_SEEN = ('for flag in $CFLAGS; do case $flag in '
               '*/mmcv_header.h) test -s $flag.gch || exit 1;; esac; done')


def calls(folder):
    return (folder / 'calls').read_text().splitlines()


def test_mmcv_is_compiled_with_a_precompiled_header(make_env, environment,
                                                    compiler, tmp_path):
    """With the flags of its own files; nothing is left behind."""
    make_env.install_mmcv(environment(HEADER_SEEN), 'onedl-mmcv==2.3.6', [])
    call, = calls(tmp_path)
    flags, header = call.split(' -include ')
    assert flags == f'install CFLAGS={make_env.CFLAGS} {make_env.MMCV_FLAGS}'
    compiled = (tmp_path / 'compiled').read_text()
    assert compiled.startswith(flags.removeprefix('install CFLAGS='))
    assert compiled.strip().endswith(f'{header} -o {header}.gch')
    assert '-I/nowhere' in compiled
    assert not list((tmp_path / 'tmp').iterdir())


def test_flags_of_the_user_are_kept(make_env, environment, compiler, tmp_path,
                                    monkeypatch):
    monkeypatch.setenv('CFLAGS', '-O1 -march=native')
    make_env.install_mmcv(environment(HEADER_SEEN), 'onedl-mmcv==2.3.6', [])
    assert calls(tmp_path)[0].startswith('install CFLAGS=-O1 -march=native -f')
    assert (tmp_path / 'compiled').read_text().startswith('-O1 -march=native ')


@pytest.mark.parametrize('gpu,force,macros,reason', [
    (True, '0', '#define __GNUC__ 12', 'it is compiled for a GPU'),
    (False, '1', '#define __GNUC__ 12', 'it is compiled for a GPU'),
    (False, '0', '#define __GNUC__ 4\n#define __clang__ 1', 'is not gcc'),
])
def test_plain_build_where_no_header_fits(gpu, force, macros, reason, make_env,
                                          environment, compiler, tmp_path,
                                          monkeypatch, capsys):
    monkeypatch.setenv('FORCE_CUDA', force)
    compiler(macros)
    make_env.install_mmcv(
        environment('true'), 'onedl-mmcv==2.3.6', [], gpu=gpu)
    assert calls(tmp_path) == ['install CFLAGS=']
    assert reason in capsys.readouterr().out
    assert not (tmp_path / 'compiled').exists()


def test_plain_build_where_the_header_fails(make_env, environment, compiler,
                                            tmp_path, capsys):
    compiler(code=1)
    make_env.install_mmcv(environment('true'), 'onedl-mmcv==2.3.6', [])
    assert calls(tmp_path) == ['install CFLAGS=']
    shown = capsys.readouterr().out
    assert 'no room' in shown and 'failed with a precompiled header' in shown
    assert not list((tmp_path / 'tmp').iterdir())


def test_plain_build_where_the_build_with_it_fails(make_env, environment,
                                                   compiler, tmp_path):
    make_env.install_mmcv(
        environment('test -z "$CFLAGS"'), 'onedl-mmcv==2.3.6', [])
    assert len(calls(tmp_path)) == 2
    assert calls(tmp_path)[1] == 'install CFLAGS='
    assert not list((tmp_path / 'tmp').iterdir())


def test_pip_has_the_wheel(make_env, environment, compiler, tmp_path,
                           monkeypatch):
    """No header, and no compiler needed; unless pip must not use it."""
    python = f'cp{sys.version_info.major}{sys.version_info.minor}'
    cached = f' - onedl_mmcv-2.3.6-{python}-{python}-linux.whl (1.4 MB)'
    make_env.install_mmcv(
        environment(HEADER_SEEN, cached), 'onedl-mmcv==2.3.6',
        ['--no-cache-dir'])
    assert '-include' in calls(tmp_path)[0]
    for other in ('onedl-mmcv==2.3.7', 'onedl-mmcv==2.3'):
        assert not make_env.pip_keeps_wheel(
            environment('', cached), other)
    monkeypatch.setenv('CXX', 'nothing')
    make_env.install_mmcv(
        environment('true', cached), 'onedl-mmcv==2.3.6', [])
    assert calls(tmp_path) == ['install CFLAGS=']


def test_no_compiler(make_env, environment, monkeypatch):
    monkeypatch.setenv('CXX', 'nothing')
    with pytest.raises(SystemExit, match='apt install build-essential'):
        make_env.install_mmcv(environment('true'), 'mmcv==0', [])


def test_a_failed_build_shows_its_end(make_env, environment, compiler,
                                      tmp_path, capsys):
    script = 'echo "[1/2] c++ a"; echo "error: no room"; exit 1'
    with pytest.raises(SystemExit, match='could not be installed'):
        make_env.install_mmcv(environment(script), 'mmcv==0', [])
    assert 'error: no room' in capsys.readouterr().out
    log = tmp_path / 'env' / 'mmcv_build.log'
    assert 'error: no room' in log.read_text()


@pytest.mark.parametrize('code', [0, 1])
def test_pip_is_not_run_beside_another_pip(code, make_env, environment,
                                           compiler, tmp_path):
    """The header is compiled meanwhile, the wheel is not."""
    compiler(code=code)

    def wait():
        assert (tmp_path / 'compiled').exists()
        assert calls(tmp_path) == []

    env = environment('true')
    make_env.install_mmcv(
        env, 'onedl-mmcv==2.3.6', [], wait_for_pip=Once(wait))
    assert len(calls(tmp_path)) == 1


class Once:
    """Calls a function the first time."""

    def __init__(self, function):
        self.function = function

    def __call__(self):
        self.function()
        self.function = lambda: None


def test_a_kernel_that_cannot_be_built_is_not_an_error(make_env, environment,
                                                     tmp_path, capfd):
    python = environment('true')
    assert make_env.build_kernel(python)
    make_env.say_kernel(python, True)
    assert 'compiled' in capfd.readouterr().out
    (tmp_path / 'env/bin/python').write_text(
        '#!/bin/sh\necho No C++ compiler >&2\nexit 1\n')
    assert not make_env.build_kernel(python)
    make_env.say_kernel(python, False)
    out, err = capfd.readouterr()
    assert 'No C++ compiler' in err
    assert 'Later: python tools/misc/build_kernels.py' in out


def test_the_kernel_is_built_from_its_file_alone(make_env, kernel_cache,
                                                 tmp_path, monkeypatch):
    """As there is torch, but no package yet that could be imported."""
    monkeypatch.setenv('XDG_CACHE_HOME', kernel_cache)
    env = make_env.Environment(tmp_path)
    env.python = sys.executable
    assert make_env.build_kernel(env)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setenv('CXX', 'false')
    assert not make_env.build_kernel(env)
