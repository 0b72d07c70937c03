#!/usr/bin/env python
"""Time models side by side, in one run, interleaved.

Systems are configs, as they are or in another form, which is named after a
colon: `textbook` (SCConv as it reads in the paper) or `deploy` (BatchNorms
folded). The first one is what the others are compared with.
Default: ResNet-50, SCConv-R50 and its textbook form, of this repository's
COCO configs. Needs neither data nor weights. Options with several values
multiply: each combination is one case.

A training step is a forward and a backward pass. The config decides what it
trains: frozen stages, BatchNorm at running or at batch statistics.
SyncBatchNorm is measured as BatchNorm.
"""
import itertools
from pathlib import Path

import torch

from mmdet_scconv.benchmark import drawing, measuring
from mmdet_scconv.benchmark.cases import (
    DTYPES,
    EXECUTIONS,
    FORMS,
    PARTS,
    REGIMES,
    TASKS,
    Case,
)
from mmdet_scconv.cli import at_least, errors_in_one_line, new_parser
from mmdet_scconv.config import read_config
from mmdet_scconv.errors import UserError
from mmdet_scconv.tables import markdown_table, print_table, write_csv

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'scconv'
DENSE, SCCONV = (str(CONFIGS / f'faster-rcnn_{slug}_fpn_1x_coco.py')
                 for slug in ('r50', 'scconv-r50'))
DEFAULT = [DENSE, SCCONV, f'{SCCONV}:textbook']


def parse_args():
    parser = new_parser(__doc__)
    parser.add_argument(
        'systems', nargs='*', default=DEFAULT, metavar='CONFIG[:FORM]')
    for name, choices, default, text in (
        ('part', PARTS, 'backbone', 'what is timed; layer: '
         "conv2 of the four stages' second blocks"),
        ('task', TASKS, 'inference',
         'training: forward and '
         'backward'),
        ('execution', EXECUTIONS, 'eager', 'compile: torch.compile; '
         'cuda-graphs: its mode reduce-overhead'),
        ('dtype', tuple(DTYPES), 'fp32', 'bf16, fp16: autocast'),
        ('regime', REGIMES, 'shipped', 'what a training step trains. shipped: '
         'what the config says; norm-eval: all parameters, with BatchNorm at '
         'running statistics; batch-statistics: the same with those of the '
         'batch')):
        parser.add_argument(
            f'--{name}',
            nargs='+',
            choices=choices,
            default=[default],
            help=f'{text} (default: {default})')
    parser.add_argument(
        '--batch', nargs='+', type=at_least(1), default=[1],
        help='images a step (default: 1)')
    parser.add_argument(
        '--shape', nargs=2, type=at_least(1), default=(800, 1344),
        metavar=('HEIGHT', 'WIDTH'), help='in pixels (default: 800 1344)')
    parser.add_argument(
        '--contiguous', action='store_true',
        help='contiguous maps (default: channels_last)')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu',
        choices=['cpu', 'cuda'])
    parser.add_argument(
        '--rounds', type=at_least(1), default=11,
        help='of each case (default: 11)')
    parser.add_argument(
        '--load', type=int, default=0,
        help='processes that keep cores busy meanwhile (default: 0)')
    parser.add_argument('--threads', type=int, help="torch's threads")
    parser.add_argument(
        '--out', metavar='NAME', help='writes NAME.csv, NAME.md, NAME.png')
    args = parser.parse_args()
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: torch finds no GPU')
    return args


def read_system(text: str) -> tuple[str, tuple[dict, str]]:
    """Name, and model config and form, of CONFIG[:FORM]."""
    path, colon, form = text.rpartition(':')
    if not colon or Path(text).exists():
        path, form = text, 'as-is'
    if form not in FORMS:
        raise UserError(f'{text}: the form after the colon is '
                        f'one of {", ".join(FORMS[1:])}')
    cfg = read_config(path)
    name = Path(path).stem
    return name + (f' ({form})' if colon else ''), (cfg.model, form)


@errors_in_one_line()
def main():
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    systems = dict(map(read_system, args.systems))
    cases = [
        Case(part, task, execution, dtype, batch, tuple(args.shape),
             regime, args.device, not args.contiguous)
        for part, task, execution, dtype, batch, regime in itertools.product(
            args.part, args.task, args.execution, args.dtype, args.batch,
            args.regime)
    ]
    where = measuring.environment(args.device)
    if args.load:
        where += f'; {args.load} busy processes beside it'
    print(where)
    results, rows = [], []
    for case in cases:
        timings = measuring.compare(
            case, systems, rounds=args.rounds, load=args.load)
        results.append((case, timings))
        new = drawing.lines(case, timings)
        print_table('', drawing.COLUMNS, new)
        rows += new
        if args.out:  # after each case: the next may take long, or fail
            write_csv(f'{args.out}.csv', (*drawing.COLUMNS, 'environment'),
                      [[*row, where] for row in rows])
            with open(f'{args.out}.md', 'w', encoding='utf-8') as f:
                f.write(f'{where}. Rounds: {args.rounds}.\n\n')
                f.write(markdown_table(drawing.COLUMNS, rows))
            drawing.plot(results, where).savefig(f'{args.out}.png', dpi=150)


if __name__ == '__main__':
    main()
