#!/usr/bin/env python
"""Make a generated data set, train on it, evaluate, and draw pictures.

Run by `make demo`. After an interruption, the same command continues from the
last checkpoint.
"""
import argparse
import json
import os
import os.path as osp
import subprocess  # noqa: S404 (runs this project's own tools)
import sys
import time
from glob import glob

from rich.console import Console
from rich.table import Table

from mmdet_scconv.datasets import make_digits

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
CONFIG = 'configs/demo/faster-rcnn_scconv-r18_fpn_9e_digits.py'
EPOCHS = 6  # of the config's 9, to see the AP sooner
DATA = 'data/digits'
AP_NAMES = {
    'bbox_mAP_50': 'AP@.5',
    'bbox_mAP_75': 'AP@.75',
    'bbox_mAP': 'mAP@[.5:.95]',
    'bbox_mAP_s': 'mAP small (< 32x32 px)',
    'bbox_mAP_m': 'mAP medium',
}


def run_tool(console, *args):
    """Run one of the tools, and show the command as a user would type it."""
    console.rule(f'python {" ".join(args)}', style='dim')
    done = subprocess.run(  # noqa: S603 (a list, no shell)
        [sys.executable, *args])
    if done.returncode:
        raise SystemExit(f'{args[0]} failed with exit code {done.returncode}')


def newest(pattern):
    """The most recently written file of a pattern, or None."""
    return max(glob(pattern), key=osp.getmtime, default=None)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--work-dir', default='work_dirs/demo', help='default: work_dirs/demo')
    work_dir = osp.abspath(parser.parse_args().work_dir)
    os.chdir(ROOT)
    work_dir = osp.relpath(work_dir)
    console = Console()

    if not osp.exists(DATA):
        console.rule(f'python tools/dataset_converters/make_digits.py {DATA}',
                     style='dim')
        make_digits(DATA)

    start = time.monotonic()
    run_tool(console, 'tools/train.py', CONFIG, '--work-dir', work_dir,
             '--resume', '--cfg-options', f'train_cfg.max_epochs={EPOCHS}',
             f'train_cfg.val_interval={EPOCHS}')
    minutes = (time.monotonic() - start) / 60
    checkpoint = newest(osp.join(work_dir, 'epoch_*.pth'))

    test_dir = osp.join(work_dir, 'test')
    run_tool(console, 'tools/test.py', CONFIG, checkpoint, '--work-dir',
             test_dir, '--show-dir', 'pictures')
    with open(newest(osp.join(test_dir, '*', '*.json'))) as f:
        metrics = json.load(f)

    table = Table(title='Digits validation set, Faster R-CNN with SCConv-R18')
    table.add_column('metric')
    table.add_column('value', justify='right')
    for key, name in AP_NAMES.items():
        table.add_row(name, f'{metrics[f"coco/{key}"]:.3f}')
    console.print()
    console.print(table)
    print(f'Checkpoint: {checkpoint} (training, or what was left of it, took '
          f'{minutes:.1f} minutes)')
    print('Pictures, annotated boxes left and predicted right: '
          f'{newest(osp.join(test_dir, "*", "pictures"))}')
    print('All of it on one page:\n  '
          f'{osp.relpath(sys.executable)} tools/analysis_tools/report.py '
          f'{work_dir}')
    print('\nNext, your own pictures (of handwritten digits, as this model '
          'knows no others):\n  '
          f'{osp.relpath(sys.executable)} tools/image_demo.py FOLDER {CONFIG} '
          f'{checkpoint}\nor your own data in VOC or COCO format: '
          'docs/data.md')


if __name__ == '__main__':
    main()
