#!/usr/bin/env python3
"""Create a virtual environment with the tested stack and this project.

Standard library only. The long step is mmcv, whose operators are compiled
once; pip keeps the result for the next environment on the same machine. With
gcc, torch's headers are compiled first, alone: on 2 cores that makes 2.5
minutes of 9.5.
"""
import argparse
import importlib.util
import os
import re
import shlex
import shutil
import subprocess  # noqa: S404 (runs pip, never a shell)
import sys
import tempfile
import time
import urllib.request
import venv
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(
    __file__))))
CPU_INDEX = 'https://download.pytorch.org/whl/cpu'
# setuptools puts the variable CFLAGS in place of the interpreter's own flags:
# these are the ones that count, without debug information
CFLAGS = '-DNDEBUG -fwrapv -O3 -w -g0'
# torch's flags for each of mmcv's files: gcc uses a precompiled header only if
# it was made with the same flags, and parses the plain one otherwise
MMCV_FLAGS = ('-fPIC -std=c++17 -DTORCH_API_INCLUDE_EXTENSION_H '
              '-DTORCH_EXTENSION_NAME=_ext')


def load_stack():
    """mmdet_scconv/stack.py, without importing the package."""
    spec = importlib.util.spec_from_file_location(
        'stack', os.path.join(ROOT, 'mmdet_scconv', 'stack.py'))
    stack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stack)
    return stack


def say(text):
    print(f'\n== {text}', flush=True)


class Environment:
    """A virtual environment and what is run in it."""

    def __init__(self, folder):
        self.folder = os.path.abspath(folder)
        self.python = os.path.join(self.folder, 'bin', 'python')

    def create(self):
        say(f'virtual environment {self.folder}')
        if os.path.exists(self.python):
            return
        try:
            venv.create(self.folder, with_pip=True, symlinks=True)
        except subprocess.CalledProcessError:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise SystemExit(
                'This Python cannot create virtual environments. On Debian '
                'and Ubuntu: apt install python3-venv python3-dev') from None

    def run(self, *args, **kwargs):
        return subprocess.run(  # noqa: S603 (fixed arguments)
            [self.python, *args], **kwargs)

    def pip(self, *args):
        if args[0] == 'install':
            # saves half of the time: Python compiles modules when they are
            # imported, and few of the installed ones are
            args = ('install', '--no-compile', *args[1:])
        done = self.run('-m', 'pip', '--disable-pip-version-check', *args)
        if done.returncode:
            raise SystemExit(f'pip {" ".join(args)} failed: see above')

    def ask(self, code):
        """The output of ``code``, None if it fails."""
        done = self.run('-c', code, capture_output=True, text=True)
        return None if done.returncode else done.stdout.strip()

    def has(self, requirement):
        """Whether exactly this pinned requirement is installed."""
        name, version = requirement.split('==')
        found = self.ask('from importlib.metadata import version\n'
                         f'print(version({name!r}))')
        return found is not None and found.split('+')[0] == version


def torch_index():
    """pip options for torch: its CPU build where there is no NVIDIA driver.

    PyPI's torch for Linux brings gigabytes of CUDA libraries along.
    """
    if shutil.which('nvidia-smi'):
        return []
    try:
        urllib.request.urlopen(  # noqa: S310 (a fixed https address)
            CPU_INDEX + '/torch/', timeout=5).close()
    except OSError:
        return []
    return ['--extra-index-url', CPU_INDEX]


def check_gpu(env):
    """Whether torch sees a GPU for which mmcv's operators can be compiled.

    Raises:
        SystemExit: If it sees one but there is no CUDA compiler: detectors
            would train on it until their first CUDA operator fails.
    """
    answer = env.ask('import torch\n'
                     'from torch.utils.cpp_extension import CUDA_HOME\n'
                     'print(torch.cuda.is_available(), torch.version.cuda, '
                     'CUDA_HOME)')
    if answer is None:
        env.run('-c', 'import torch')
        raise SystemExit('torch cannot be imported: see above')
    available, cuda, cuda_home = answer.split(' ', 2)
    if available != 'True':
        return False
    if cuda_home == 'None' or not os.path.exists(
            os.path.join(cuda_home, 'bin', 'nvcc')):
        raise SystemExit(
            f'torch sees a GPU, but there is no CUDA compiler (nvcc), so mmcv '
            'would be built without CUDA operators and training would fail '
            'in nms. Nothing was built. Either\n'
            f'  install the CUDA toolkit {cuda} and set CUDA_HOME to its '
            'folder (the one with bin/nvcc), or\n'
            '  use the CPU alone: put CUDA_VISIBLE_DEVICES= before this and '
            'all later commands.')
    return True


def compiler():
    """The command that torch compiles C++ with."""
    return shlex.split(os.environ.get('CXX', 'c++'))


def check_compiler():
    if not shutil.which(compiler()[0]):
        raise SystemExit(
            f"No C++ compiler ({compiler()[0]}), which mmcv's operators need. "
            'On Debian and Ubuntu: apt install build-essential python3-dev')


def is_gcc():
    done = subprocess.run(  # noqa: S603 (the user's compiler)
        [*compiler(), '-dM', '-E', '-x', 'c++', os.devnull],
        capture_output=True,
        text=True)
    return '__GNUC__ ' in done.stdout and '__clang__ ' not in done.stdout


def why_no_header():
    """Why mmcv is compiled without a precompiled header, or None."""
    if any(os.environ.get(f'FORCE_{device}') == '1'
           for device in ('CUDA', 'MLU', 'MUSA', 'NPU')):
        return 'it is compiled for a GPU'
    if not is_gcc():
        return f'{compiler()[0]} is not gcc'
    return None


@contextmanager
def header_flags(env):
    """CFLAGS with which mmcv's files find torch's headers compiled.

    Yields:
        str: The flags, or None where the header could not be compiled. Its
            430 MB are deleted afterwards.
    """
    with tempfile.TemporaryDirectory(prefix='mmcv_header_') as folder:
        header = os.path.join(folder, 'mmcv_header.h')
        with open(header, 'w') as file:
            file.write('#include <torch/types.h>\n')
        flags = f'{os.environ.get("CFLAGS", CFLAGS)} {MMCV_FLAGS}'
        paths = env.ask('import sysconfig\n'
                        'from torch.utils.cpp_extension import include_paths\n'
                        'print(*include_paths(), sysconfig.get_path('
                        '"include"), sep="\\n")')
        done = subprocess.run(  # noqa: S603 (the user's compiler)
            [
                *compiler(), *shlex.split(flags),
                *(f'-I{path}' for path in (paths or '').splitlines()), '-x',
                'c++-header', header, '-o', header + '.gch'
            ],
            capture_output=True,
            text=True)
        if done.returncode:
            print(done.stderr[-2000:])
        yield None if done.returncode else f'{flags} -include {header}'


def pip_keeps_wheel(env, requirement):
    """Whether pip has built this requirement before, for this Python."""
    name, version = requirement.replace('-', '_').split('==')
    done = env.run(
        '-m',
        'pip',
        'cache',
        'list',
        name,
        capture_output=True,
        text=True)
    python = f'cp{sys.version_info.major}{sys.version_info.minor}'
    return f'{name}-{version}-{python}-' in done.stdout


def install_mmcv(env,
                 requirement,
                 options,
                 gpu=False,
                 wait_for_pip=lambda: None):
    """Install mmcv, showing how far the compiler is.

    Args:
        env (Environment): Where to.
        requirement (str): Name and version.
        options (list[str]): For pip.
        gpu (bool): Whether it is compiled for one.
        wait_for_pip (Callable): Called before pip is, as another pip may be
            at work in the environment.

    Raises:
        SystemExit: If it fails; shows the end of the log, and where it is.
    """
    log = os.path.join(env.folder, 'mmcv_build.log')
    if '--no-cache-dir' not in options and pip_keeps_wheel(env, requirement):
        say(f'{requirement}: its operators, which pip has from before')
        reason = 'pip has them'
    else:
        check_compiler()
        say(f'{requirement}: compiling its operators (log: {log})')
        reason = 'it is compiled for a GPU' if gpu else why_no_header()
        if reason:
            print(f'   without a precompiled header, as {reason}: about 10 '
                  'minutes on 2 cores', flush=True)
    if reason is None:
        print('   about 3 minutes on 2 cores', flush=True)
        with header_flags(env) as flags:
            wait_for_pip()
            if flags and run_build(env, requirement, options, log, flags):
                return
        print('   That failed with a precompiled header. Without one, which '
              'takes about 10 minutes on 2 cores:', flush=True)
    wait_for_pip()
    if not run_build(env, requirement, options, log):
        with open(log) as file:
            print(*file.readlines()[-30:], sep='')
        raise SystemExit(f'{requirement} could not be installed. The whole '
                         f'log: {log}')


def run_build(env, requirement, options, log, cflags=None):
    """Run pip install, with its output in a log; returns whether it succeeded.
    """
    settings = dict(os.environ)
    settings.setdefault('MAX_JOBS', str(os.cpu_count() or 1))
    # where ninja is
    settings['PATH'] = os.pathsep.join(
        (os.path.dirname(env.python), settings.get('PATH', os.defpath)))
    if cflags is not None:
        settings['CFLAGS'] = cflags
    command = [
        env.python, '-m', 'pip', '--disable-pip-version-check', 'install',
        '-v', '--no-compile', '--no-build-isolation', *options, requirement
    ]
    start = shown = time.monotonic()
    with open(log, 'w') as file, subprocess.Popen(  # noqa: S603 (no shell)
            command,
            env=settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace') as process:
        for line in process.stdout:
            file.write(line)
            step = re.match(r'\s*\[(\d+)/(\d+)\]', line)
            now = time.monotonic()
            last = step and step[1] == step[2]
            if step and (now - shown > 15 or last):
                shown = now
                minutes, seconds = divmod(int(now - start), 60)
                print(
                    f'   {step[1]} of {step[2]} files compiled, '
                    f'{minutes}:{seconds:02d}',
                    flush=True)
    return process.returncode == 0


def build_kernel(env):
    """Compile SCConv's kernel for the CPU, from its file alone: the package
    cannot be imported yet. Whether that succeeded."""
    path = os.path.join(ROOT, 'mmdet_scconv', 'layers', 'kernels', 'cpu.py')
    return env.ask('import runpy\n'
                   f'print(runpy.run_path({path!r})["build"]())') is not None


def say_kernel(env, built):
    """Say whether there is a kernel, and if not, why."""
    if built:
        say("SCConv's kernel for the CPU: compiled")
        return
    say("SCConv's kernel for the CPU could not be compiled:")
    tool = os.path.join('tools', 'misc', 'build_kernels.py')
    if env.run(os.path.join(ROOT, tool)).returncode:
        print('   SCConv works without it, more slowly on the CPU. Later: '
              f'python {tool}', flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', nargs='?', default='.venv')
    env = Environment(parser.parse_args().folder)
    if sys.version_info < (3, 10):  # noqa: UP036 (any Python may run this)
        raise SystemExit(
            f'Python {sys.version.split()[0]} is too old: 3.10 or later is '
            'needed (make PYTHON=python3.11 ...)')
    stack = load_stack()
    env.create()
    if not env.has(stack.TORCH):
        say(stack.TORCH)
        env.pip('install', '--progress-bar', 'on', *torch_index(), stack.TORCH)
    say('what mmcv is compiled with')
    env.pip('install', '-q', *stack.MMCV_BUILD)
    gpu = check_gpu(env)
    mmcv = stack.MM_STACK['mmcv']
    others = [r for name, r in stack.MM_STACK.items() if name != 'mmcv']
    # pip unpacks on one core while the other one compiles
    with ThreadPoolExecutor() as pool:
        say('mmengine, mmdet')
        installed = pool.submit(env.pip, 'install', '-q', *others)
        kernel = pool.submit(build_kernel, env)
        if not env.has(mmcv):
            # a wheel that pip kept may have been built without CUDA
            install_mmcv(env, mmcv, ['--no-cache-dir'] if gpu else [], gpu,
                         installed.result)
        installed.result()
    # opencv-python needs libGL, which machines without a display lack; both
    # packages own the folder cv2, so the other one is installed anew
    say('OpenCV without a display, this project')
    env.pip('uninstall', '-q', '-y', 'opencv-python', 'opencv-python-headless')
    env.pip('install', '-q', '--no-deps', stack.OPENCV)
    if env.ask('import mmcv._ext') is None:
        say('the operators that pip kept do not fit this torch')
        install_mmcv(
            env, mmcv, ['--no-cache-dir', '--force-reinstall', '--no-deps'],
            gpu)
    env.pip('install', '-q', '--no-build-isolation', '-e', f'{ROOT}[demo]')
    # this also compiles the modules that every run imports, which pip has not:
    # the variable would have them compiled in each process
    settings = {name: value for name, value in os.environ.items()
                if name != 'PYTHONDONTWRITEBYTECODE'}
    done = env.run('-c', 'import mmdet_scconv, mmdet.apis, torch._dynamo',
                   env=settings)
    if done.returncode:
        raise SystemExit('The environment is not complete: see above')
    say_kernel(env, kernel.result())
    say(f'ready: {env.folder}')


if __name__ == '__main__':
    main()
