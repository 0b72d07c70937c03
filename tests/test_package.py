"""Wheel and sdist, installed beside the MM stack: what is in `.mim` trains.

Minutes long: ``pytest -m slow tests/test_package.py``.
"""
import os
import shutil
import subprocess
import sys
import sysconfig
import venv

import pytest
from conftest import REPO, free_port
from test_tools import SMALL

CONFIG = 'demo/faster-rcnn_scconv-r18_fpn_9e_digits.py'

pytestmark = pytest.mark.slow


def run(*args, **kwargs):
    done = subprocess.run([str(a) for a in args],
                          capture_output=True,
                          text=True,
                          **kwargs)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


@pytest.fixture(scope='module')
def dist(tmp_path_factory):
    """What ``python -m build`` makes of a clone: the wheel is built from the
    sdist."""
    folder = tmp_path_factory.mktemp('build')
    ignored = shutil.ignore_patterns('.*', 'build', 'dist', 'data',
                                     'work_dirs', 'outputs', '__pycache__',
                                     '*.egg-info')
    shutil.copytree(REPO, folder / 'clone', ignore=ignored)
    run(sys.executable, '-m', 'build', '--no-isolation', '--outdir',
        folder / 'dist', folder / 'clone')
    return folder / 'dist'


@pytest.fixture
def python(tmp_path):
    """An environment that sees this one's packages, but not this project."""
    venv.create(tmp_path / 'env', with_pip=True, symlinks=True)
    python = tmp_path / 'env' / 'bin' / 'python'
    site = run(python, '-c',
               'import sysconfig; print(sysconfig.get_path("purelib"))')
    # .pth files that lie there are not read, nor so editable installs
    stack = [
        path for path in sys.path if path and os.path.isdir(path)
        and os.path.basename(path) == 'site-packages'
    ] or [sysconfig.get_path('purelib')]
    with open(os.path.join(site.strip(), 'stack.pth'), 'w') as file:
        file.write('\n'.join(stack))
    return python


@pytest.mark.parametrize('kind', ['*.whl', '*.tar.gz'])
def test_installed_package_trains(kind, dist, python, tmp_path):
    archive, = dist.glob(kind)
    run(python, '-m', 'pip', 'install', '--no-deps', '--no-index',
        '--no-build-isolation', '--force-reinstall', archive)
    folder = tmp_path / 'empty'
    folder.mkdir()
    package = run(
        python, '-c', 'import mmdet_scconv; print(mmdet_scconv.__path__[0])',
        cwd=folder).splitlines()[-1]
    assert package.startswith(str(tmp_path))
    mim = os.path.join(package, '.mim')
    for name in ('README.md', 'LICENSE', '__pycache__'):
        assert not os.path.exists(os.path.join(mim, name))
    assert os.path.isfile(os.path.join(mim, 'model-index.yml'))
    for path in ('layers/kernels/cpu_sru.cpp',
                 'layers/kernels/cpu_numbers.h', 'visualization/report.html'):
        assert os.path.isfile(os.path.join(package, path))
    tools = os.path.join(mim, 'tools')
    run(python, os.path.join(tools, 'dataset_converters/make_digits.py'),
        'data/digits', '--num-train', 4, '--num-val', 2, '--size', 96,
        cwd=folder)
    run(python, os.path.join(tools, 'train.py'),
        os.path.join(mim, 'configs', CONFIG), '--work-dir', 'run', *SMALL,
        cwd=folder)
    assert (folder / 'run/epoch_1.pth').is_file()
    output = run(
        os.path.join(tools, 'dist_test.sh'),
        os.path.join(mim, 'configs', CONFIG), 'run/epoch_1.pth', 2, *SMALL,
        cwd=folder,
        env=dict(os.environ, PYTHON=str(python), CUDA_VISIBLE_DEVICES='',
                 OMP_NUM_THREADS='1', PORT=free_port()))
    assert 'coco/bbox_mAP' in output
