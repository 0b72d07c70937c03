"""The software that the package needs: tested versions, and their check.

Standard library only: setup.py and the environment tool read this file
before anything is installed.
"""
import importlib
import re

# One tested stack. OpenMMLab's own mmcv stopped at torch 2.4; the onedl
# packages are its maintained fork and keep the import names.
TORCH = 'torch==2.13.0'
MM_STACK = {
    'mmengine': 'onedl-mmengine==0.10.12',
    'mmcv': 'onedl-mmcv==2.3.6',
    'mmdet': 'onedl-mmdetection==3.5.1',
}
# The last release that mmdet's imaug allows; headless: no libGL needed.
OPENCV = 'opencv-python-headless==4.12.0.88'
# What must be there while mmcv's operators are compiled.
MMCV_BUILD = ('setuptools>=80,<82', 'wheel', 'packaging', 'ninja', 'psutil',
              'numpy')

# Nothing older is tested.
MINIMUM = {
    name: requirement.split('==')[1]
    for name, requirement in MM_STACK.items()
}
# with CUDA, on which the layers' tests were run
MINIMUM['torch'] = '2.11.0'

HOW_TO_INSTALL = (
    'Install the tested stack with "make env" in a clone of mmdet-scconv, or '
    'by hand:\n'
    f'  pip install {TORCH} {MM_STACK["mmengine"]} {MM_STACK["mmdet"]}\n'
    f'  pip install {" ".join(repr(r) for r in MMCV_BUILD)}\n'
    f'  pip install --no-build-isolation {MM_STACK["mmcv"]}')


def release(version: str) -> tuple:
    """The leading numbers of a version, e.g. '2.1.0rc1+cpu' -> (2, 1, 0)."""
    return tuple(
        int(n) for n in re.match(r'\d+(?:\.\d+)*', version)[0].split('.'))


def is_torch_alone() -> bool:
    """Whether neither mmengine, mmcv nor mmdet is installed."""
    for name in MM_STACK:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name == name:
                continue
        except ImportError:
            pass
        return False
    return True


def check_version(name: str, minimum: str) -> None:
    """Import a package that must have at least this version.

    Raises:
        ImportError: If it is missing, too old or broken; says what to
            install.
    """
    try:
        found = importlib.import_module(name).__version__
    except ModuleNotFoundError as error:
        if error.name != name:
            raise ImportError(
                f'mmdet_scconv: {name} is installed but cannot be imported: '
                f'{error}.\n{HOW_TO_INSTALL}') from error
        raise ImportError(f'mmdet_scconv needs {name}>={minimum}, which is '
                          f'not installed.\n{HOW_TO_INSTALL}') from None
    except ImportError as error:
        hint = ('\nOn a machine without a display: pip uninstall -y '
                'opencv-python opencv-python-headless && pip install '
                'opencv-python-headless' if 'libGL' in str(error) else '')
        raise ImportError(
            f'mmdet_scconv: {name} is installed but cannot be imported: '
            f'{error}.{hint}\n{HOW_TO_INSTALL}') from error
    if release(found) < release(minimum):
        raise ImportError(f'mmdet_scconv needs {name}>={minimum}, found '
                          f'{found}.\n{HOW_TO_INSTALL}')


def check_torch() -> None:
    """Check that torch can run the layers.

    Raises:
        ImportError: If it is too old.
    """
    check_version('torch', MINIMUM['torch'])


def check_stack() -> None:
    """Import torch, mmengine, mmcv (with its operators) and mmdet.

    Raises:
        ImportError: If one is missing, too old or broken; names it and what
            to install.
    """
    for name, minimum in MINIMUM.items():
        check_version(name, minimum)
    try:
        importlib.import_module('mmcv._ext')
    except ImportError as error:
        raise ImportError(
            'mmdet_scconv: mmcv has no compiled operators here (mmcv-lite, or '
            f'a build for another torch): {error}.\n{HOW_TO_INSTALL}'
        ) from error


def check_cuda_operators() -> None:
    """Check that mmcv has CUDA operators where torch sees a GPU.

    Raises:
        RuntimeError: If not: a training would fail at its first CUDA
            operator.
    """
    import torch
    from mmcv.ops import get_compiling_cuda_version
    if torch.cuda.is_available() and \
            get_compiling_cuda_version() == 'not available':
        raise RuntimeError(
            'torch sees a GPU, but mmcv was compiled without CUDA operators. '
            'Either compile it again with the CUDA compiler in reach (FORCE_'
            'CUDA=1 pip install --no-cache-dir --force-reinstall --no-deps '
            f'--no-build-isolation {MM_STACK["mmcv"]}), or use the CPU alone: '
            'put CUDA_VISIBLE_DEVICES= before the command.')
