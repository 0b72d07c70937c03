#!/usr/bin/env python
"""Rehearses the way from the archives to the paper's tables at its real size.

Makes archives of VOC 07+12 and of COCO 2017 with the real names, layout and
counts (16,551 training and 4,952 test images; 118,287 training images with
860,001 boxes, and 5,000 validation images), but pictures of 48x40 pixels.
Then runs, each as a user does: prepare_data.py, check_dataset.py,
reproduce.py with networks a few channels wide for one epoch, killed twice and
started again, tradeoff.py and report.py. The training on COCO is of its first
1,600 images.

Prints the time and the largest process of each step, writes them to
FOLDER/steps.md, and ends with code 1 where one fails. The output of each step
is kept in FOLDER/NAME.log. Needs no network; 4 GB of disk.
"""
import csv
import os
import os.path as osp
import subprocess  # noqa: S404 (runs this project's own tools)
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from mmdet_scconv.cli import new_parser
from mmdet_scconv.paper.rows import TABLES
from mmdet_scconv.paper.runs import last_line
from mmdet_scconv.paper.work_dirs import last_checkpoint, trained
from mmdet_scconv.tables import markdown_table

TOOLS = Path(__file__).resolve().parent.parent
CONFIGS = TOOLS.parent / 'configs' / 'scconv'
SEEDS = ('0', '1')
SIZE = '(48,40)'
IN_VALIDATION_SECONDS = 5

MODEL = {
    'backbone.depth': 18,
    'backbone.base_channels': 16,
    'backbone.init_cfg': None,
    'backbone.frozen_stages': -1,
    'backbone.norm_eval': False,
    'neck.in_channels': '[16,32,64,128]',
    'neck.out_channels': 16,
    'rpn_head.in_channels': 16,
    'rpn_head.feat_channels': 16,
    'rpn_head.anchor_generator.scales': '[2]',
    'roi_head.bbox_roi_extractor.out_channels': 16,
    'roi_head.bbox_head.in_channels': 16,
    'roi_head.bbox_head.fc_out_channels': 64,
    'train_cfg.rpn.sampler.num': 32,
    'train_cfg.rpn_proposal.nms_pre': 64,
    'train_cfg.rpn_proposal.max_per_img': 32,
    'train_cfg.rcnn.sampler.num': 32,
    'test_cfg.rpn.nms_pre': 64,
    'test_cfg.rpn.max_per_img': 32,
    'test_cfg.rcnn.max_per_img': 10,
    # 100 iterations, on COCO, leave every score below 0.05
    'test_cfg.rcnn.score_thr': 0.,
}
BOTH = {
    'train_cfg.max_epochs': 1,
    'train_dataloader.batch_size': 16,
    'val_dataloader.batch_size': 8,
    'test_dataloader.batch_size': 8,
    'val_dataloader.dataset.pipeline.1.scale': SIZE,
    'test_dataloader.dataset.pipeline.1.scale': SIZE,
    # --auto-scale-lr must not see another batch size
    'auto_scale_lr.base_batch_size': 16,
    'optim_wrapper.optimizer.lr': 0.02,
    **{f'model.{key}': value for key, value in MODEL.items()}
}
VOC_PARTS = 'train_dataloader.dataset.dataset.datasets'
OPTIONS = {
    'voc': {
        'train_dataloader.dataset.times': 1,
        f'{VOC_PARTS}.0.pipeline.2.scale': SIZE,
        f'{VOC_PARTS}.1.pipeline.2.scale': SIZE,
        **BOTH
    },
    'coco': {
        # the whole file is read, its first images are trained on
        'train_dataloader.dataset.indices': 1600,
        'train_dataloader.dataset.pipeline.2.scale': SIZE,
        # the test comes right after
        'train_cfg.val_begin': 2,
        **BOTH
    }
}


def parse_args():
    parser = new_parser(__doc__)
    parser.add_argument('folder', help='a new one, for data and results')
    parser.add_argument(
        '--data',
        nargs='+',
        choices=list(OPTIONS),
        default=list(OPTIONS),
        help='default: both')
    parser.add_argument(
        '--rows',
        nargs='+',
        metavar='SLUG',
        choices=[row.slug for row in TABLES['voc'].rows],
        default=['r50', 'scconv-r50'],
        help='rows of VOC, two seeds each (default: r50 scconv-r50)')
    return parser.parse_args()


class Steps:
    """Runs commands one after another, and records their time and memory.

    Args:
        folder (Path): Where they run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = []

    def run(self, name: str, *args, kill_when: Callable | None = None) -> None:
        """Run a command, and kill it and all its children when asked to.

        Raises:
            SystemExit: If it fails, or ends before it was to be killed.
        """
        log = self.folder / f'{name}.log'
        print(f'{name} ...', flush=True)
        begin = time.monotonic()
        with open(log, 'w') as out:
            process = subprocess.Popen(  # noqa: S603 (a list, no shell)
                [sys.executable, *map(str, args)],
                cwd=self.folder,
                # networks of this size do not gain from more threads
                env=dict(os.environ, OMP_NUM_THREADS='1'),
                stdout=out,
                stderr=subprocess.STDOUT)
        killed = False
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if kill_when is not None and not killed and kill_when():
                family = psutil.Process(process.pid)
                for member in (family, *family.children(recursive=True)):
                    member.kill()
                killed = True
            time.sleep(0.2)
        process.returncode = code = os.waitstatus_to_exitcode(status)
        minutes = (time.monotonic() - begin) / 60
        if killed:
            note = 'killed (-9)'
        elif kill_when is not None:
            raise SystemExit(f'{name}: ended with code {code} before it was '
                             f'killed, see {log}: {last_line(str(log))}')
        elif code:
            raise SystemExit(f'{name}: FAILED with code {code}, see {log}: '
                             f'{last_line(str(log))}')
        else:
            note = ''
        self.rows.append(
            [name, f'{minutes:.1f}', f'{usage.ru_maxrss / 1024:.0f}', note])
        print(f'{name}: {minutes:.1f} min, largest process '
              f'{usage.ru_maxrss / 1024:.0f} MiB {note}', flush=True)

    def table(self) -> str:
        return markdown_table(
            ['step', 'minutes', 'largest process (MiB)', ''], self.rows)


def expect(condition: bool, what: str) -> None:
    if not condition:
        raise SystemExit(f'dress_rehearsal: FAILED: {what}')


def prepare(steps: Steps, data: str, config: Path) -> None:
    code = ('from mmdet_scconv.datasets.rehearsal import write_archives; '
            f'write_archives({data!r}, {"archives/" + data!r})')
    steps.run(f'{data}-archives', '-c', code)
    steps.run(f'{data}-prepare', TOOLS / 'misc/prepare_data.py', data,
              '--archives', f'archives/{data}', '--md5',
              f'archives/{data}/md5sums.txt')
    steps.run(f'{data}-check', TOOLS / 'misc/check_dataset.py', config)


def reproduce(data: str, rows: list[str], *args: str) -> list:
    options = [f'{key}={value}' for key, value in OPTIONS[data].items()]
    return [TOOLS / 'reproduce.py', data, '--rows', *rows, *args,
            '--cfg-options', *options]


def check_results(steps: Steps, data: str, runs: int) -> None:
    folder = steps.folder / 'work_dirs' / 'reproduce' / data
    with open(folder / 'results.csv', newline='') as f:
        found = [(row['state'], row['coco/bbox_mAP'] != '')
                 for row in csv.DictReader(f)]
    expect(found == runs * [('finished', True)],
           f'{folder}/results.csv has the runs (state, AP is there) {found}')
    for name in ('results.md', 'results.png'):
        expect((folder / name).stat().st_size > 100, f'{folder / name}')


def rehearse_voc(steps: Steps, rows: list[str]) -> None:
    prepare(steps, 'voc', CONFIGS / f'faster-rcnn_{rows[0]}_fpn_1x_voc0712.py')
    command = reproduce('voc', rows, '--seeds', *SEEDS)
    folder = osp.join(steps.folder, 'work_dirs', 'reproduce', 'voc')
    first = osp.join(folder, rows[0], 'seed0')
    saved_at = []

    def in_the_first_validation():
        if last_checkpoint(first) is not None:
            saved_at.append(time.monotonic())
        return saved_at and (
            time.monotonic() - saved_at[0] > IN_VALIDATION_SECONDS)

    steps.run('voc-reproduce-1', *command,
              kill_when=lambda: trained(first, 'epoch') > 0.5)
    steps.run('voc-reproduce-2', *command, kill_when=in_the_first_validation)
    steps.run('voc-dry-run',
              *reproduce('voc', rows, '--seeds', *SEEDS, '--dry-run'))
    steps.run('voc-reproduce-3', *command)
    log = Path(first, 'train.log').read_text(errors='replace')
    expect('resumed epoch: 1' in log, f'{first} was not resumed')
    check_results(steps, 'voc', len(SEEDS) * len(rows))
    steps.run('voc-collect', TOOLS / 'reproduce.py', 'voc', '--rows', *rows,
              '--collect')
    check_results(steps, 'voc', len(SEEDS) * len(rows))
    steps.run('voc-tradeoff', TOOLS / 'analysis_tools/tradeoff.py', 'voc',
              '--results', f'{folder}/results.csv')
    steps.run('voc-report', TOOLS / 'analysis_tools/report.py', first)
    report = (steps.folder / 'voc-report.log').read_text()
    expect('missing' not in report, report)


def rehearse_coco(steps: Steps) -> None:
    prepare(steps, 'coco', CONFIGS / 'faster-rcnn_scconv-r50_fpn_1x_coco.py')
    steps.run('coco-reproduce', *reproduce('coco', ['scconv-r50']))
    check_results(steps, 'coco', 1)


def main():
    args = parse_args()
    folder = Path(args.folder).resolve()
    if folder.exists() and any(folder.iterdir()):
        raise SystemExit(f'dress_rehearsal: {args.folder} is not empty: name '
                         'a new folder')
    folder.mkdir(parents=True, exist_ok=True)
    steps = Steps(folder)
    try:
        if 'voc' in args.data:
            rehearse_voc(steps, args.rows)
        if 'coco' in args.data:
            rehearse_coco(steps)
    finally:
        (folder / 'steps.md').write_text(steps.table())
        print(steps.table())


if __name__ == '__main__':
    main()
