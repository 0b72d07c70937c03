#!/usr/bin/env python
"""Compile the optional C++ kernels that make SCConv faster on the CPU.

`make env` does so. They are used from the next start on, for float32 and
bfloat16 in channels_last.
"""
import argparse
import shutil

from mmdet_scconv.layers.kernels import cpu


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    if cpu.is_loaded():
        print(f'Built before: {cpu.library_path()}')
        return
    # imports setuptools, which wants to be the first one to import distutils
    from torch.utils.cpp_extension import get_cxx_compiler
    compiler = get_cxx_compiler()
    if not shutil.which(compiler.split()[0]):
        raise SystemExit(
            f'No C++ compiler ({compiler}). On Debian and Ubuntu: apt install '
            'build-essential python3-dev')
    try:
        print(f'Built: {cpu.build()}')
    except (RuntimeError, OSError) as error:
        raise SystemExit(str(error)) from None


if __name__ == '__main__':
    main()
