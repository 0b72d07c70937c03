#!/usr/bin/env python
"""Measures a warm start: AP against iterations of an SCConv detector that is
fine-tuned from (a) random initialisation, (b) a dense detector's weights
without its 3x3 convolutions, (c) the same with fitted 3x3 convolutions.

Trains the dense detector, converts it, fine-tunes, and writes curves.csv,
curves.md, curves.png and layers.md. Finished parts are not repeated. Seeds may
run in separate processes (--seeds); the outputs are of all finished ones.
"""
import os.path as osp
import shutil
import sys
from pathlib import Path

import torch
from mmengine.config import Config

from mmdet_scconv.cli import new_parser
from mmdet_scconv.paper.runs import call
from mmdet_scconv.paper.work_dirs import (
    RunError,
    last_checkpoint,
    test_metrics,
)
from mmdet_scconv.tables import markdown_table
from mmdet_scconv.visualization.curves import Curves, read_curve
from mmdet_scconv.warm_start.convert import (
    METHODS,
    Conversion,
    resnet_to_scconv,
)

REPO = Path(__file__).resolve().parent.parent.parent
CONFIGS = REPO / 'configs/digits'
STARTS = {
    'random': '(a) random',
    'copy': '(b) copied',
    'fit': '(c) fitted',
}


def parse_args():
    parser = new_parser(__doc__)
    parser.add_argument('--work-dir', default='work_dirs/warm_start')
    parser.add_argument(
        '--dense',
        metavar='CONFIG',
        default=str(CONFIGS / 'faster-rcnn_r50_fpn_6e_digits.py'),
        help='config of the dense detector (default: R50 on the digits)')
    parser.add_argument(
        '--scconv',
        metavar='CONFIG',
        default=str(CONFIGS / 'faster-rcnn_scconv-r50_fpn_6e_digits.py'),
        help='config of the SCConv detector (default: R50 on the digits)')
    parser.add_argument(
        '--out',
        default=str(REPO / 'benchmarks/warm_start'),
        help='folder of the outputs')
    parser.add_argument('--seeds', type=int, nargs='*', default=[0, 1, 2])
    parser.add_argument(
        '--starts', nargs='+', choices=STARTS, default=list(STARTS))
    parser.add_argument(
        '--iterations', type=int, default=100, help='default: 100')
    parser.add_argument(
        '--interval', type=int, default=20,
        help='iterations between evaluations (default: 20)')
    parser.add_argument(
        '--lr', type=float, default=1e-3,
        help='learning rate of the fine-tuning (default: 0.001)')
    return parser.parse_args()


def run(script: str, log: Path, *args: str) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(f'{log}.lock', 'w') as lock:
        call([sys.executable, str(REPO / 'tools' / script), *args], str(log),
             lock, torch.cuda.device_count(), lambda: None)


def train_source(root: Path, config: str) -> str:
    """The dense detector; returns its checkpoint."""
    work_dir = root / 'source'
    if not test_metrics(str(work_dir)):
        run('train.py', root / 'source.log', config, '--work-dir',
            str(work_dir), '--resume', '--cfg-options', 'randomness.seed=0')
        run('test.py', root / 'source-test.log', config,
            last_checkpoint(str(work_dir)), '--work-dir',
            str(work_dir / 'test'))
    return last_checkpoint(str(work_dir))


def convert_all(root: Path, source: str, config: str,
                starts: list[str]) -> None:
    for method in METHODS:
        if method not in starts:
            continue
        out = root / 'weights' / f'{method}.pth'
        if not out.exists():
            resnet_to_scconv(source, str(out), Conversion(
                method, whole=True, config=config, num_images=128, size=128))
        if not test_metrics(str(root / method)):
            run('test.py', root / f'{method}-test.log', config, str(out),
                '--work-dir', str(root / method / 'test'))


def fine_tune(root: Path, config: str, start: str, seed: int,
              iterations: int, interval: int, lr: float) -> None:
    work_dir = root / start / f'seed{seed}'
    curve = read_curve(start, seed, str(work_dir))
    if iterations in curve.scores:
        return
    shutil.rmtree(work_dir, ignore_errors=True)
    cfg = Config.fromfile(config)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations,
                         val_interval=interval)
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0,
             end=interval),
        dict(type='CosineAnnealingLR', by_epoch=False, begin=interval,
             end=iterations)
    ]
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', by_epoch=False, interval=iterations)
    cfg.default_hooks.logger.log_metric_by_epoch = False
    cfg.log_processor = dict(by_epoch=False)
    cfg.optim_wrapper.optimizer.lr = lr
    cfg.randomness = dict(seed=seed)
    if start != 'random':
        cfg.load_from = str((root / 'weights' / f'{start}.pth').resolve())
    work_dir.mkdir(parents=True)
    cfg.dump(work_dir / 'start.py')
    run('train.py', work_dir / 'train.log', str(work_dir / 'start.py'),
        '--work-dir', str(work_dir))


def collect(root: Path, out: str) -> list[str]:
    """Write the outputs; returns their paths."""
    curves = [
        read_curve(start, int(path.name[4:]), str(path))
        for start in STARTS
        for path in sorted((root / start).glob('seed*'))
    ]
    for curve in curves:
        metrics = test_metrics(str(root / curve.name))
        if metrics:
            curve.scores[0] = metrics['coco/bbox_mAP']
    dense = test_metrics(str(root / 'source'))['coco/bbox_mAP']
    paths = Curves(curves, STARTS, dense, 'dense detector').write(out)
    layers = torch.load(root / 'weights/fit.pth',
                        weights_only=True)['meta']['layers']
    rows = [[layer['name'], layer['method'],
             f"{100 * layer['unexplained']:.1f}"] for layer in layers]
    path = osp.join(out, 'layers.md')
    Path(path).write_text(markdown_table(
        ['layer', 'fitted by', 'unexplained variance (%)'], rows))
    return [*paths, path]


def main():
    args = parse_args()
    root = Path(args.work_dir)
    try:
        source = train_source(root, args.dense)
        convert_all(root, source, args.scconv, args.starts)
        for seed in args.seeds:
            for start in args.starts:
                fine_tune(root, args.scconv, start, seed, args.iterations,
                          args.interval, args.lr)
                print(f'{start}, seed {seed}: done', flush=True)
    except RunError as error:
        raise SystemExit(f'warm_start_experiment: {error}') from None
    print('Written: ' + ', '.join(collect(root, args.out)))


if __name__ == '__main__':
    main()
