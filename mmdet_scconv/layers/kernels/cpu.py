"""The optional compiled kernels for CPUs; everything works without them.

``make env`` or ``tools/misc/build_kernels.py`` compiles it once (a C++
compiler is needed) into the user's cache. Processes that start later use it
for float32 and bfloat16 on the CPU in channels_last; the first such input
loads it.
"""
import hashlib
import os
import platform
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from subprocess import CalledProcessError

import torch
from torch import Tensor

NAME = 'mmdet_scconv_kernels'
SOURCES = [Path(__file__).with_name(name) for name in (
    'cpu_sru.cpp', 'cpu_cru.cpp', 'cpu_numbers.h')]
DTYPES = (torch.float32, torch.bfloat16)


def cpu_features(cpuinfo: str = '/proc/cpuinfo') -> str:
    """The instruction sets of this machine's CPU, as the system lists them;
    the CPU's name if it lists none."""
    try:
        with open(cpuinfo) as lines:
            for line in lines:
                # x86's name, and ARM's
                if line.startswith(('flags', 'Features')):
                    return line
    except OSError:
        pass
    return f'{platform.machine()} {platform.processor()}'


def cache_folder() -> Path:
    """This package's folder in the user's cache, ``$XDG_CACHE_HOME``, by
    default ``~/.cache``.

    Raises:
        OSError: If there is neither, as for a user without a home folder.
    """
    try:
        cache = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    except RuntimeError as error:
        raise OSError(f'{error} Set $XDG_CACHE_HOME') from None
    return Path(cache, 'mmdet_scconv')


def library_path() -> Path:
    """Path of the compiled kernels. It differs by source, torch version and
    kind of CPU, as machines may share a home folder.

    Raises:
        OSError: As :func:`cache_folder`.
    """
    key = hashlib.sha256(b''.join(map(Path.read_bytes, SOURCES))
                         + cpu_features().encode())
    return (cache_folder() /
            f'{key.hexdigest()[:16]}-torch{torch.__version__}' / f'{NAME}.so')


def build() -> Path:
    """Compile the kernels for this machine; the path of the library.

    Processes that do so at the same time wait for the first one.

    Raises:
        RuntimeError: If the compiler fails; shows its output.
        OSError: If the cache cannot be written to.
    """
    from filelock import FileLock  # torch needs it, too
    from torch.utils.cpp_extension import load  # imports setuptools
    path = library_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name('build.lock')), ninja_in_reach():
        # torch's own lock, which a killed build leaves behind: the next one
        # would wait for it without end
        path.with_name('lock').unlink(missing_ok=True)
        try:
            load(
                NAME, [str(path) for path in SOURCES if path.suffix == '.cpp'],
                # fast-math to vectorise min, max and rounding; when compiling
                # only: in the link it would change the whole process's
                # treatment of denormals
                extra_cflags=[
                    '-O3', '-march=native', '-ffast-math', '-fopenmp'],
                extra_ldflags=['-fopenmp'],
                build_directory=str(path.parent),
                is_python_module=False)
        except CalledProcessError as error:  # not even its version
            raise RuntimeError(str(error)) from error
    return path


@contextmanager
def ninja_in_reach() -> Iterator[None]:
    """Let torch find the ninja of this Python's environment, even if that is
    not activated."""
    before = os.environ.get('PATH', os.defpath)
    os.environ['PATH'] = sysconfig.get_path('scripts') + os.pathsep + before
    try:
        yield
    finally:
        os.environ['PATH'] = before


def fake_sru_gate(x: Tensor, weight: Tensor, bias: Tensor, groups: int,
                  eps: float, threshold: float) -> tuple[Tensor, ...]:
    """Shapes and layout of what the kernel returns, for torch.compile."""
    n, channels, height, width = x.shape
    halves = (torch.empty((n, channels // 2, height, width), dtype=x.dtype,
                          device=x.device, memory_format=torch.channels_last)
              for _ in range(2))
    return (*halves, weight.new_empty(n, 2, channels),
            weight.new_empty(n, 2, groups))


def fake_sru_gate_backward(grad_first: Tensor, grad_second: Tensor, x: Tensor,
                           weight: Tensor, affine: Tensor, moments: Tensor,
                           threshold: float) -> tuple[Tensor, ...]:
    """As :func:`fake_sru_gate`, of the backward kernel."""
    return (torch.empty_like(x, memory_format=torch.channels_last),
            torch.empty_like(weight), torch.empty_like(weight))


def load_library() -> bool:
    """Load the kernels; returns whether they were built."""
    try:
        torch.ops.load_library(str(library_path()))
    except OSError:  # not there, or not for this machine
        return False
    # the other operators need none, as no graph contains them (is_traced)
    for fake in (fake_sru_gate, fake_sru_gate_backward):
        torch.library.register_fake(
            'mmdet_scconv::' + fake.__name__.removeprefix('fake_'), fake)
    return True


load_once = cache(load_library)


# a constant for torch.compile, which cannot trace the loading
@torch.compiler.assume_constant_result
def is_loaded() -> bool:
    """Whether there are kernels; the first call loads them."""
    return load_once()


def fits(x: Tensor) -> bool:
    """Whether the kernels can and should be used for this input."""
    return (x.device.type == 'cpu' and x.dtype in DTYPES
            and x.is_contiguous(memory_format=torch.channels_last)
            and is_loaded())
