#!/usr/bin/env python
"""Time models side by side, in one run, interleaved.

Systems are configs, as they are or in another form, which is named after a
colon: `textbook` (SCConv as it reads in the paper) or `deploy` (BatchNorms
folded). The first one is what the others are compared with.
Default: ResNet-50, SCConv-R50 and its textbook form, of this repository's
COCO configs. Needs neither data nor weights. Options with several values
multiply: each combination is one case.

With --part layer, `dense` and `scconv` in place of a config are convolutions
alone, with the BatchNorm behind them, and need torch without MMDetection.

A training step is a forward and a backward pass. The config decides what it
trains: frozen stages, BatchNorm at running or at batch statistics.
SyncBatchNorm is measured as BatchNorm.
"""
import argparse
import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import torch

from mmdet_scconv.benchmark import convolutions, drawing, measuring
from mmdet_scconv.benchmark.cases import (
    DTYPES,
    EXECUTIONS,
    FORMS,
    PARTS,
    REGIMES,
    TASKS,
    Case,
)
from mmdet_scconv.errors import UserError, errors_in_one_line
from mmdet_scconv.memory import keep_freed_memory
from mmdet_scconv.tables import markdown_table, print_table, write_csv

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'scconv'
DENSE, SCCONV = (str(CONFIGS / f'faster-rcnn_{slug}_fpn_1x_coco.py')
                 for slug in ('r50', 'scconv-r50'))
DEFAULT = [DENSE, SCCONV, f'{SCCONV}:textbook']


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'systems', nargs='*', default=DEFAULT, metavar='CONFIG[:FORM]')
    for name, choices, default, text in (
        ('part', PARTS, 'backbone', 'what is timed; layer: '
         "conv2 of the four stages' second blocks"),
        ('task', TASKS, 'inference',
         'training: forward and '
         'backward'),
        ('execution', EXECUTIONS, 'eager', 'compile: torch.compile; '
         "cuda-graphs: eager mode's kernels, launched together"),
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
        '--batch', nargs='+', type=int, default=[1],
        help='images a step (default: 1)')
    parser.add_argument(
        '--shape', nargs=2, type=int, default=(800, 1344),
        metavar=('HEIGHT', 'WIDTH'), help='in pixels (default: 800 1344)')
    parser.add_argument(
        '--contiguous', action='store_true',
        help='contiguous maps (default: channels_last)')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu',
        choices=['cpu', 'cuda'])
    parser.add_argument(
        '--rounds', type=int, default=11, help='of each case (default: 11)')
    parser.add_argument(
        '--load', type=int, default=0,
        help='processes that keep cores busy meanwhile (default: 0)')
    parser.add_argument(
        '--return-memory', action='store_true',
        help="return freed memory to the system, as is PyTorch's default "
        "(default: keep it, as this project's tools do on CPUs)")
    parser.add_argument('--threads', type=int, help="torch's threads")
    parser.add_argument(
        '--out', metavar='NAME', help='writes NAME.csv, NAME.md, NAME.png')
    args = parser.parse_args()
    if min(*args.batch, *args.shape, args.rounds) < 1:
        parser.error('--batch, --shape and --rounds: numbers >= 1')
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: torch finds no GPU')
    return args


def read_system(text: str) -> tuple[str, Callable]:
    """Name, and a function that builds the model, of CONFIG[:FORM]."""
    path, colon, form = text.rpartition(':')
    if not colon or Path(text).exists():
        path, form = text, 'as-is'
    if form not in FORMS:
        raise UserError(f'{text}: the form after the colon is '
                        f'one of {", ".join(FORMS[1:])}')
    name = Path(path).stem + (f' ({form})' if colon else '')
    if path in convolutions.KINDS:
        return name, partial(convolutions.build, path, form)
    return name, built_once(partial(models_of(path), form))


def built_once(build: Callable) -> Callable:
    """Build a backbone once for cases that differ only in execution, dtype or
    batch.

    On a GPU building takes longer than measuring. A detector is built for each
    case, as the measuring adds hooks to it.
    """
    latest = lru_cache(maxsize=1)(build)

    def built(case: Case):
        if case.part == 'detector':
            return build(case)
        return latest(replace(case, execution='eager', dtype='fp32', batch=1))

    return built


def models_of(path: str) -> Callable:
    """What builds the models of a config."""
    try:
        from mmdet_scconv.benchmark import models
        from mmdet_scconv.config import read_config
    except ImportError as error:
        raise UserError(
            f'{path}: a config needs MMDetection, which cannot be imported '
            f'({error}). Without it: dense scconv --part layer') from error
    return partial(models.build, read_config(path).model)


@errors_in_one_line(ValueError)
def main():
    args = parse_args()
    if args.device == 'cpu' and not args.return_memory:
        keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    systems = dict(map(read_system, args.systems))
    # the first dtype and regime with all that is asked of them, then the next
    cases = [
        Case(part, task, execution, dtype, batch, tuple(args.shape),
             regime, args.device, not args.contiguous)
        for part, task, regime, dtype, execution, batch in itertools.product(
            args.part, args.task, args.regime, args.dtype, args.execution,
            args.batch)
    ]
    where = measuring.environment(args.device)
    if args.return_memory:
        where += '; freed memory is returned'
    if args.load:
        where += f'; {args.load} busy processes beside it'
    print(where)
    results, rows, failed = [], [], []
    for case in cases:
        try:
            timings = measuring.compare(
                case, systems, rounds=args.rounds, load=args.load)
        except Exception as error:  # noqa: BLE001 (the others are measured)
            reason = (str(error).splitlines() or [''])[0]
            failed.append(f'{case}: {type(error).__name__}: {reason}')
            print(f'FAILED: {failed[-1]}', flush=True)
            continue
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
    if failed:
        raise UserError(f'{len(failed)} of {len(cases)} cases failed:\n  '
                        + '\n  '.join(failed))


if __name__ == '__main__':
    main()
