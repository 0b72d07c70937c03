#!/usr/bin/env python
"""What a backbone's convolutions cost or gain where it starts from a dense
network's weights, as a detector starts from ImageNet's.

Trains a dense detector (ResNet-50 of a quarter of the width) on generated
digits. Its backbone goes to another data set, with a new neck and new heads,
and other convolutions in its place: the AP of each system over several seeds,
and its paired difference to the dense one. Only what is said in SYSTEMS
differs. Writes runs.csv and table.md. What is finished is not done
again.
"""
import argparse
import shutil
import statistics
import sys
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from scipy import stats

from mmdet_scconv.datasets import make_digits
from mmdet_scconv.paper.runs import call
from mmdet_scconv.paper.work_dirs import RunError, last_checkpoint
from mmdet_scconv.tables import markdown_table, write_csv
from mmdet_scconv.visualization.curves import read_curve

REPO = Path(__file__).resolve().parent.parent.parent
DIGITS = REPO / 'configs/digits/faster-rcnn_r50_fpn_6e_digits.py'
VOC_FORMAT = REPO / 'configs/_base_/datasets/voc_format.py'
SOURCE_SEED = 1  # of the digits that the dense backbone comes from

# Where rows are frozen as MMDetection's dense ones, BatchNorm included.
FROZEN = dict(frozen_stages=1, norm_eval=True)
LEARNS = dict(frozen_stages=-1, norm_eval=False)
SYSTEMS = {
    'dense': dict(type='ResNet', **FROZEN),
    'SCConv': dict(type='SCConvResNet', **FROZEN),
    'SCConv, generated images': dict(type='SCConvResNet', **FROZEN),
    'SCConv, random': dict(
        type='SCConvResNet', swapped_init='random', **LEARNS),
    'SPConv': dict(
        type='SPConvResNet', conv2_cfg=dict(alpha=0.75), **FROZEN),
    'SlimConv': dict(
        type='SlimConvResNet', conv2_cfg=dict(k='1'), **FROZEN),
}


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work-dir', default='work_dirs/transfer')
    parser.add_argument(
        '--out', help='folder of the outputs (default: the work dir)')
    parser.add_argument(
        '--voc-format',
        metavar='FOLDER',
        help='the data to move to, in VOC format (default: other digits)')
    parser.add_argument(
        '--classes', nargs='+', help="classes of --voc-format's data")
    parser.add_argument(
        '--scale', type=int, nargs=2, default=[256, 192], metavar='PIXELS',
        help='--voc-format: width and height (default: 256 192)')
    parser.add_argument(
        '--systems', nargs='+', choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument('--seeds', type=int, nargs='+', default=range(5))
    parser.add_argument('--epochs', type=int, default=3, help='default: 3')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={},
        help='settings of all systems, as of train.py')
    args = parser.parse_args()
    if args.voc_format and not args.classes:
        parser.error('--voc-format needs --classes')
    return args


def train(cfg: Config, work_dir: Path) -> None:
    """Run train.py with a config; its log is WORK_DIR.log.

    Raises:
        RunError: If it fails.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    config = work_dir / 'start.py'
    cfg.dump(config)
    with open(f'{work_dir}.lock', 'w') as lock:
        call([sys.executable, str(REPO / 'tools/train.py'), str(config),
              '--work-dir', str(work_dir)], f'{work_dir}.log', lock,
             torch.cuda.device_count(), lambda: None)


def digits(root: Path, seed: int) -> str:
    folder = root / f'digits{seed}'
    if not folder.exists():
        make_digits(str(folder), num_val=300, seed=seed)
    return f'{folder.resolve()}/'


def moved_to(cfg: Config, data_root: str) -> Config:
    """The config with its data in another folder."""
    for loader in (cfg.train_dataloader, cfg.val_dataloader,
                   cfg.test_dataloader):
        loader.dataset.data_root = data_root
        loader.update(num_workers=0, persistent_workers=False)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = data_root + 'annotations/instances_val.json'
    return cfg


def source(root: Path) -> str:
    """Checkpoint of the dense detector."""
    work_dir = root / 'source'
    if not last_checkpoint(str(work_dir)):
        cfg = moved_to(Config.fromfile(DIGITS), digits(root, SOURCE_SEED))
        cfg.randomness = dict(seed=0)
        train(cfg, work_dir)
    return str(Path(last_checkpoint(str(work_dir))).resolve())


def target(args, root: Path) -> Config:
    """The config of the data set to move to, with a dense backbone."""
    cfg = Config.fromfile(DIGITS)
    if not args.voc_format:
        return moved_to(cfg, digits(root, 0))
    data = Config.fromfile(VOC_FORMAT)
    for name in ('train', 'val', 'test'):
        loader = cfg[f'{name}_dataloader'] = data[f'{name}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.batch_size = 4
        loader.dataset.data_root = f'{Path(args.voc_format).resolve()}/'
        loader.dataset.metainfo = dict(classes=tuple(args.classes))
        for step in loader.dataset.pipeline:
            if step['type'] == 'Resize':
                step.scale = tuple(args.scale)
    cfg.val_evaluator = data.val_evaluator
    cfg.test_evaluator = data.test_evaluator
    cfg.model.roi_head.bbox_head.num_classes = len(args.classes)
    return cfg


def run(args, system: str, seed: int, checkpoint: str, root: Path,
        work_dir: Path) -> float:
    """The AP of a system's last epoch."""
    scores = read_curve(system, seed, str(work_dir)).scores
    if args.epochs not in scores:
        shutil.rmtree(work_dir, ignore_errors=True)
        cfg = target(args, root)
        cfg.model.backbone.update(
            SYSTEMS[system], init_cfg=dict(
                type='Pretrained', checkpoint=checkpoint, prefix='backbone.'))
        if system == 'SCConv, generated images':
            # as with a config that has no hook of this project
            cfg.custom_hooks = []
        cfg.train_cfg.update(max_epochs=args.epochs, val_interval=args.epochs)
        cfg.default_hooks.checkpoint.interval = args.epochs
        cfg.randomness = dict(seed=seed)
        cfg.merge_from_dict(args.cfg_options)
        train(cfg, work_dir)
        scores = read_curve(system, seed, str(work_dir)).scores
    return scores[args.epochs]


def interval(values: list[float]) -> str:
    """Mean and half of its 95% interval (Student's t), in points."""
    mean = 100 * statistics.mean(values)
    if len(values) < 2:
        return f'{mean:.1f}'
    half = 100 * stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return f'{mean:.1f} ± {half:.1f}'


def table(found: dict[str, dict[int, float]]) -> str:
    rows = []
    dense = found.get('dense', {})
    for system, scores in found.items():
        both = [scores[seed] - dense[seed] for seed in scores if seed in dense]
        rows.append([system, interval(list(scores.values())),
                     interval(both) if both and system != 'dense' else '-',
                     len(scores)])
    return markdown_table(['backbone', 'AP', 'minus dense', 'seeds'], rows)


def main():
    args = parse_args()
    root = Path(args.work_dir)
    out = Path(args.out or root)
    found: dict[str, dict[int, float]] = {}
    try:
        checkpoint = source(root)
        for seed in args.seeds:
            for system in args.systems:
                name = system.replace(', ', '-').replace(' ', '-')
                score = run(args, system, seed, checkpoint, root,
                            root / 'runs' / name / f'seed{seed}')
                found.setdefault(system, {})[seed] = score
                print(f'{system}, seed {seed}: {100 * score:.1f}', flush=True)
    except RunError as error:
        raise SystemExit(f'transfer_experiment: {error}') from None
    write_csv(str(out / 'runs.csv'), ['backbone', 'seed', 'AP'],
              [[system, seed, f'{score:.4f}']
               for system, scores in found.items()
               for seed, score in scores.items()])
    (out / 'table.md').write_text(table(found))
    print(table(found))


if __name__ == '__main__':
    main()
