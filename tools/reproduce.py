#!/usr/bin/env python
"""Train and test every row of a table, and write the table.

Each row runs in processes of its own (train.py, then test.py), whose output is
kept in its work dir. If the command is repeated, finished rows are skipped and
incomplete ones resumed; a failed row does not stop the others. Results:
results.csv, results.md, results.png and results.svg in the folder of the
table, also of work dirs that were trained elsewhere and copied there
(--collect).
"""
import os.path as osp
import signal
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mmdet_scconv.cli import at_least, errors_in_one_line, new_parser
from mmdet_scconv.errors import UserError
from mmdet_scconv.paper.results import TableResults
from mmdet_scconv.paper.rows import (
    COCO_STYLE,
    DETECTION_SHAPE,
    TABLES,
    Row,
    Table,
)
from mmdet_scconv.paper.runs import Run, execute
from mmdet_scconv.paper.work_dirs import (
    RunError,
    find_results,
    read_result,
    trained,
    training_length,
)

REPO = Path(__file__).resolve().parent.parent
NAMES = [name for name, table in TABLES.items() if table.config]


def parse_args():
    parser = new_parser(__doc__)
    parser.add_argument(
        'what',
        nargs='+',
        metavar='TABLE_OR_CONFIG',
        help=f'one of {", ".join(NAMES)}, or config files')
    parser.add_argument(
        '--rows',
        nargs='+',
        metavar='SLUG',
        help='only these rows of the table, e.g. r50 scconv-r50')
    parser.add_argument(
        '--seeds', type=int, nargs='+', default=[0], help='default: 0')
    parser.add_argument(
        '--gpus',
        type=at_least(0),
        default=torch.cuda.device_count(),
        help='GPUs for each run, 0: the CPU (default: all). The learning rate '
        'is scaled with the total batch size')
    parser.add_argument(
        '--work-dir',
        help='folder of the table (default: work_dirs/reproduce/TABLE)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='override settings in all rows')
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='list the runs, how far they are, and how long the rest takes')
    parser.add_argument(
        '--collect',
        action='store_true',
        help='run nothing, write the table from the work dirs below the '
        'folder, however they are arranged')
    args = parser.parse_args()
    for option in args.cfg_options:
        if '=' not in option:
            parser.error(f'--cfg-options {option}: must be KEY=VALUE')
    return args


def table_of(what: list[str], slugs: list[str] | None) -> tuple[str, Table]:
    """The name and the table that a command line asks for."""
    if len(what) == 1 and what[0] in NAMES:
        name, table = what[0], TABLES[what[0]]
    else:
        name, rows = 'configs', []
        for path in what:
            if not osp.isfile(path):
                raise UserError(f'{path!r} is neither a table '
                                f'({", ".join(NAMES)}) nor a config file')
            rows.append(
                Row(Path(path).stem, Config.fromfile(path).model.backbone,
                    slug=Path(path).stem))
        if len({row.name for row in rows}) < len(rows):
            raise UserError('two configs have the same name, their results '
                            'could not be told apart')
        table = Table('Configs', DETECTION_SHAPE, COCO_STYLE, tuple(rows))
    known = [row.slug for row in table.rows]
    for slug in slugs or ():
        if slug not in known:
            raise UserError(f'--rows {slug!r} is not valid: the table has '
                            f'{", ".join(known)}')
    rows = tuple(r for r in table.rows if slugs is None or r.slug in slugs)
    return name, Table(table.title, table.shape, table.metrics, rows,
                       table.config)


def config_of(table: Table, row: Row, what: list[str]) -> str:
    if table.config:
        return str(REPO / table.config.format(slug=row.slug))
    return next(path for path in what if Path(path).stem == row.name)


def seconds_left(run: Run, results: dict, epochs: float) -> float | None:
    """Computed from logged iterations: of this run, else of its row, else of
    any row."""
    candidates = [
        *(r for r in results[run.name] if r.work_dir == run.work_dir),
        *results[run.name],
        *(r for others in results.values() for r in others)
    ]
    for result in candidates:
        if result.seconds_per_epoch is not None:
            return epochs * result.seconds_per_epoch
    return None


def dry_run(runs: list[Run], states: list[str], results: dict) -> None:
    total, unknown = 0., 0
    for run, state in zip(runs, states):
        wanted, unit = training_length(
            Config.fromfile(run.config), run.options)
        done = trained(run.work_dir, unit)
        text = ''
        if state != 'finished':
            seconds = seconds_left(run, results, wanted - done)
            unknown += seconds is None
            total += seconds or 0
            text = ', no measured time yet' if seconds is None else (
                f', about {seconds / 3600:.1f} h of training')
        print(f'{run.name}, seed {run.seed}: {state}, {round(done, 2):g} of '
              f'{wanted} {unit}s{text}\n    {run.config}\n    {run.work_dir}')
    print(f'About {total / 3600:.1f} h of training in all' +
          (f', and {unknown} runs whose time is not known: no row of this '
           'table has logged an iteration yet' if unknown else '') +
          '; tests come on top.')


def run_all(runs: list[Run], states: list[str], gpus: int) -> list[str]:
    """Returns the messages of those that failed."""
    failures = []
    tools = str(REPO / 'tools')
    console = Console(soft_wrap=True)
    with Progress(
            TextColumn('{task.description}'), BarColumn(),
            TextColumn('{task.completed:.1f} of {task.total:.0f}'),
            TimeElapsedColumn(), console=console) as progress:
        rows_bar = progress.add_task('runs', total=len(runs))
        for i, (run, state) in enumerate(zip(runs, states), start=1):
            name = f'[{i}/{len(runs)}] {run.name}, seed {run.seed}'
            if state == 'finished':
                console.print(f'{name}: finished before', markup=False)
                progress.advance(rows_bar)
                continue
            console.print(
                f'{name}: ' +
                ('resumed' if state == 'started' else 'started') +
                f', log: {run.path("train.log")}', markup=False)
            wanted, unit = training_length(
                Config.fromfile(run.config), run.options)
            bar = progress.add_task(
                f'{run.name}, seed {run.seed}: {unit}s',
                completed=trained(run.work_dir, unit),
                total=wanted)

            def update(run=run, bar=bar, unit=unit):
                progress.update(bar, completed=trained(run.work_dir, unit))

            try:
                execute(run, tools, gpus, update)
                console.print(f'{name}: finished', markup=False)
            except RunError as error:
                failures.append(f'{run.name}, seed {run.seed}: {error}')
                console.print(f'{name}: FAILED: {error}', markup=False)
            progress.remove_task(bar)
            progress.advance(rows_bar)
    return failures


@errors_in_one_line()
def main():
    args = parse_args()
    name, table = table_of(args.what, args.rows)
    root = args.work_dir or osp.join('work_dirs', 'reproduce', name)
    configs = {r.name: config_of(table, r, args.what) for r in table.rows}
    runs = [
        Run(row.name, configs[row.name], seed,
            osp.join(root, row.slug, f'seed{seed}'), tuple(args.cfg_options))
        for seed in args.seeds for row in table.rows
    ]
    failures = []
    if not args.collect:
        states = [run.state() for run in runs]
        if args.dry_run:
            dry_run(runs, states, {
                name: list(find_results(name, config, root))
                for name, config in configs.items()
            })
            return
        # end the running training, too
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            failures = run_all(runs, states, args.gpus)
        except KeyboardInterrupt:
            raise UserError('interrupted; the same command continues from '
                            'here') from None
    results = {
        row: [read_result(row, config, run.work_dir) for run in runs
              if run.name == row and osp.exists(run.path(osp.basename(config)))
              ] if not args.collect else list(find_results(row, config, root))
        for row, config in configs.items()
    }
    if args.collect and not any(results.values()):
        raise UserError('no work dir of '
                        f'{" or ".join(map(osp.basename, configs.values()))} '
                        f'below {root}')
    output = TableResults(table, results)
    output.print()
    print('Written: ' + ', '.join(output.write(root)))
    unfinished = [
        f'{r.name}, seed {r.seed}: {r.state}, {r.work_dir}'
        for row in results.values() for r in row if not r.metrics
    ] if args.collect else failures
    if unfinished:
        print('Not in the table:\n' + '\n'.join(f'  {u}' for u in unfinished))
        raise SystemExit(1)


if __name__ == '__main__':
    main()
