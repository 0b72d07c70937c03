#!/usr/bin/env python
"""Try another backbone in MMDetection's detectors, without data or weights.

Each config is built with its ResNet or ResNeXt swapped (--backbone Swapped:
with the convolutions of whatever backbone it has), and does one training and
one test step on two small random images, in a process of its own. If that
fails, the stock config is tried, too; if both do, both on larger images.
Ends with code 1 if a config fails by the swap, where the stock one works.
"""
import os.path as osp
from functools import partial

from rich.progress import track

from mmdet_scconv.benchmark.stock_configs import (
    ANY,
    other_backbones,
    representatives,
)
from mmdet_scconv.benchmark.trial_table import (
    COLUMNS,
    table_row,
    write_markdown,
)
from mmdet_scconv.benchmark.try_backbone import SIZES, attempt_apart
from mmdet_scconv.benchmark.verdict import try_config
from mmdet_scconv.cli import at_least, new_parser
from mmdet_scconv.tables import print_table, write_csv


def parse_args():
    parser = new_parser(__doc__)
    parser.add_argument(
        'configs',
        nargs='*',
        metavar='CONFIG',
        help='config files, or mmdet::FOLDER/NAME.py')
    parser.add_argument(
        '--all',
        action='store_true',
        help='also one config for each folder of MMDetection\'s: the shortest '
        'name, r50 first, whose backbone is a ResNet or ResNeXt; with '
        '--backbone Swapped: one for each class of other backbones')
    parser.add_argument(
        '--backbone',
        default='SCConvResNet',
        help='type to swap a ResNet to; ...ResNeXt for a ResNeXt; Swapped: '
        'any backbone, its 3x3 without a stride for SCConv (default: '
        'SCConvResNet)')
    parser.add_argument(
        '--size',
        type=at_least(32),
        nargs='+',
        default=SIZES,
        metavar='N',
        help='height and width of the images; each next one is for what fails '
        f'with both backbones (default: {" ".join(map(str, SIZES))})')
    parser.add_argument(
        '--timeout',
        type=float,
        default=300,
        help='seconds for one attempt (default: 300)')
    parser.add_argument(
        '--log-dir',
        metavar='FOLDER',
        help='keep what each attempt prints, with the traceback of an error')
    parser.add_argument(
        '--out',
        nargs='+',
        default=[],
        metavar='FILE',
        help='.md and .csv files for the table, too')
    args = parser.parse_args()
    if not args.configs and not args.all:
        parser.error('name a CONFIG, or --all')
    for path in args.out:
        if not path.endswith(('.md', '.csv')):
            parser.error(f'--out {path}: must end in .md or .csv')
    for path in args.configs:
        if '::' not in path and not osp.isfile(path):
            parser.error(f'no such config: {path}')
    return args


def main():
    args = parse_args()
    configs, without = args.configs, []
    if args.all:
        if args.backbone == ANY:
            found = other_backbones()
        else:
            found, without = representatives()
        configs = list(dict.fromkeys([*found, *configs]))
    run = partial(
        attempt_apart, timeout=args.timeout, log_dir=args.log_dir)
    trials, rows = [], []
    for config in track(configs, description='configs', transient=True):
        trials.append(try_config(config, run, args.backbone, args.size))
        rows.append(table_row(trials[-1]))
        print(f'{config}: {trials[-1].verdict}', flush=True)
        # all that there is so far, as it may take an hour
        for path in args.out:
            if path.endswith('.csv'):
                write_csv(path, COLUMNS, rows)
            else:
                write_markdown(path, args.backbone, trials, without)
    print_table(f'Detectors with {args.backbone}', COLUMNS, rows)
    failed = [trial.config for trial in trials if trial.fails_by_swap]
    if failed:
        raise SystemExit('Failed by the swap: ' + ', '.join(failed))


if __name__ == '__main__':
    main()
