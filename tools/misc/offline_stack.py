#!/usr/bin/env python3
"""Install MMDetection from a folder of wheels, without a network.

Beside the torch of this Python, into the folder TARGET, which then belongs on
PYTHONPATH. mmcv is taken as a wheel where WHEELS holds one, else compiled from
its source archive there.
"""
import argparse
import glob
import os
import sys

import make_env


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('wheels', metavar='WHEELS')
    parser.add_argument('target', metavar='TARGET')
    parser.add_argument(
        '--operators', choices=['cpu', 'cuda'], default='cpu',
        help='what mmcv is compiled for (default: cpu)')
    args = parser.parse_args()
    ready = [path for path in glob.glob(os.path.join(args.wheels, '*.whl'))
             if not os.path.basename(path).startswith('onedl_mmcv')]
    mmcv = glob.glob(os.path.join(args.wheels, 'onedl_mmcv*'))
    if not ready or not mmcv:
        raise SystemExit(
            f'offline_stack: {args.wheels} does not hold the wheels of '
            'onedl-mmengine and onedl-mmdetection, and onedl-mmcv: collect '
            'them with "pip download" where there is a network')
    gpu = args.operators == 'cuda'
    os.environ.update(MMCV_WITH_OPS='1', FORCE_CUDA=str(int(gpu)))
    if gpu:
        import torch
        os.environ.setdefault('TORCH_CUDA_ARCH_LIST', '{}.{}'.format(
            *torch.cuda.get_device_capability()))
    else:  # mmcv's setup.py looks for a GPU itself
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
    env = make_env.Environment(args.target)
    env.python = sys.executable
    os.makedirs(env.folder, exist_ok=True)
    options = ['--no-index', '--no-deps', '--no-cache-dir', '--upgrade',
               '--target', env.folder]
    env.pip('install', '-q', *options, *ready)
    make_env.install_mmcv(
        env, make_env.load_stack().MM_STACK['mmcv'],
        [*options, '--find-links', args.wheels], gpu)
    print(f'installed: {env.folder}')


if __name__ == '__main__':
    main()
