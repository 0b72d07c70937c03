"""Packaging: metadata, extras, and the configs and tools as `.mim`."""
import os
import runpy
import shutil

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = os.path.dirname(os.path.abspath(__file__))


def constants_of(path):
    return runpy.run_path(os.path.join(HERE, 'mmdet_scconv', path))


class BuildWithMim(build_py):
    """Adds the folders that OpenMMLab's tools look for in a package."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        mim = os.path.join(self.build_lib, 'mmdet_scconv', '.mim')
        shutil.rmtree(mim, ignore_errors=True)
        for folder in ('configs', 'tools'):
            shutil.copytree(
                os.path.join(HERE, folder),
                os.path.join(mim, folder),
                ignore=shutil.ignore_patterns('__pycache__'))
        shutil.copy(os.path.join(HERE, 'model-index.yml'), mim)


stack = constants_of('stack.py')
with open(os.path.join(HERE, 'README.md'), encoding='utf-8') as f:
    readme = f.read()

setup(
    name='mmdet-scconv',
    version=constants_of('version.py')['__version__'],
    description='SCConv (CVPR 2023) backbones for MMDetection',
    long_description=readme,
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['mmdet_scconv', 'mmdet_scconv.*']),
    package_data={
        'mmdet_scconv.layers.kernels': ['cpu_*.cpp', 'cpu_*.h'],
        'mmdet_scconv.visualization': ['report.html'],
    },
    cmdclass=dict(build_py=BuildWithMim),
    # The MM stack is not a hard requirement: its packages have two sets of
    # names (OpenMMLab's and onedl's), and pip must not replace a working one.
    # `import mmdet_scconv` checks what is there.
    install_requires=['pooch'],
    extras_require=dict(
        # with --no-build-isolation: mmcv is compiled against torch
        mm=[stack['TORCH'], *stack['MM_STACK'].values()],
        demo=['scikit-learn'],
        export=['onnx', 'onnxruntime', 'onnxscript'],
        safetensors=['safetensors'],
        test=[
            'build', 'hypothesis', 'onnx', 'onnxruntime', 'onnxscript',
            'pytest', 'pytest-timeout', 'pytest-xdist', 'ruff', 'safetensors',
            'scikit-learn', 'triton; sys_platform == "linux"'
        ],
    ))
