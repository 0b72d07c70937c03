#!/usr/bin/env python3
"""Create a virtual environment with the tested stack and this project.

Standard library only. The long step is mmcv, whose operators are compiled
once (about 11 minutes on 2 cores); pip keeps the result for the next
environment on the same machine.
"""
import argparse
import importlib.util
import os
import re
import shutil
import subprocess  # noqa: S404 (runs pip, never a shell)
import sys
import time
import urllib.request
import venv

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(
    __file__))))
CPU_INDEX = 'https://download.pytorch.org/whl/cpu'


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
        done = self.run('-m', 'pip', '--disable-pip-version-check', *args)
        if done.returncode:
            raise SystemExit(f'pip {" ".join(args)} failed: see above')

    def ask(self, code):
        """What ``code`` prints, or None where it fails."""
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


def check_compiler():
    if not (shutil.which(os.environ.get('CXX', 'c++')) or
            shutil.which('g++')):
        raise SystemExit(
            "No C++ compiler, which mmcv's operators need. On Debian and "
            'Ubuntu: apt install build-essential python3-dev')


def install_mmcv(env, requirement, options):
    """Install mmcv, showing how far the compiler is.

    Raises:
        SystemExit: If it fails; shows the end of the log, and where it is.
    """
    log = os.path.join(env.folder, 'mmcv_build.log')
    say(f'{requirement}: compiling its operators, unless pip has them from '
        f'before (about 11 minutes on 2 cores; log: {log})')
    settings = dict(os.environ)
    settings.setdefault('MAX_JOBS', str(os.cpu_count() or 1))
    command = [
        env.python, '-m', 'pip', '--disable-pip-version-check', 'install',
        '-v', '--no-build-isolation', *options, requirement
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
    if process.returncode:
        with open(log) as file:
            print(*file.readlines()[-30:], sep='')
        raise SystemExit(f'{requirement} could not be installed. The whole '
                         f'log: {log}')


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
    say('mmengine, mmdet, and what mmcv is compiled with')
    mmcv = stack.MM_STACK['mmcv']
    others = [r for name, r in stack.MM_STACK.items() if name != 'mmcv']
    env.pip('install', '-q', *others, *stack.MMCV_BUILD)
    gpu = check_gpu(env)
    if not env.has(mmcv):
        check_compiler()
        # a wheel that pip kept may have been built without CUDA
        install_mmcv(env, mmcv, ['--no-cache-dir'] if gpu else [])
    # opencv-python needs libGL, which machines without a display lack; both
    # packages own the folder cv2, so the other one is installed anew
    say('OpenCV without a display, this project, its tests')
    env.pip('uninstall', '-q', '-y', 'opencv-python', 'opencv-python-headless')
    env.pip('install', '-q', '--no-deps', stack.OPENCV)
    if env.ask('import mmcv._ext') is None:
        say('the operators that pip kept do not fit this torch')
        install_mmcv(env, mmcv,
                     ['--no-cache-dir', '--force-reinstall', '--no-deps'])
    env.pip('install', '-q', '--no-build-isolation', '-e',
            f'{ROOT}[demo,test]')
    done = env.run('-c', 'import mmdet_scconv')
    if done.returncode:
        raise SystemExit('The environment is not complete: see above')
    say(f'ready: {env.folder}')


if __name__ == '__main__':
    main()
