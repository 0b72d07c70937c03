#!/usr/bin/env python
"""Parameters and FLOPs, by three counters, of configs or of the paper's rows.

Needs neither data nor weights. Without a config: every row of the paper's
tables, each with the fc that the paper counts with, and the difference to the
paper's figure. With configs: the backbone with a fc of 1000 classes, the
backbone alone, and the whole detector; a classifier with its own fc.
"""
from collections.abc import Iterator

from mmengine.config import Config
from rich.progress import track

from mmdet_scconv.cli import (
    add_cfg_options,
    at_least,
    errors_in_one_line,
    new_parser,
)
from mmdet_scconv.config import read_config
from mmdet_scconv.paper.complexity import (
    COUNTERS,
    Complexity,
    count_classifier,
    count_parts,
    is_classifier,
)
from mmdet_scconv.paper.image_size import fit_image_size
from mmdet_scconv.paper.rows import DETECTION_SHAPE, PAPER_TABLES, TABLES
from mmdet_scconv.paper.table import Row, notes
from mmdet_scconv.tables import print_table, write_csv

NOTES = '''\
Params in millions; "seen": without GroupNorm's, as thop counts. FLOPs in G
multiply-accumulates. MACs: convolutions and fc alone. thop: also their bias,
BatchNorm and average pooling. mmengine: also GroupNorm, no bias, no pooling.
'''


def parse_args():
    parser = new_parser(__doc__)
    parser.add_argument(
        'configs', nargs='*', help='config files (default: the paper\'s rows)')
    parser.add_argument(
        '--tables',
        nargs='+',
        choices=list(TABLES),
        default=PAPER_TABLES,
        help='which rows, without configs (default: the paper\'s)')
    parser.add_argument(
        '--shape',
        type=at_least(1),
        nargs='+',
        metavar=('HEIGHT', 'WIDTH'),
        help='image size in pixels, one number for a square (default: '
        f'{DETECTION_SHAPE[0]} for detection, what is trained on else)')
    parser.add_argument(
        '--fit-shape',
        action='store_true',
        help='search the image size by which each counter is nearest to the '
        "paper's FLOPs of all detection rows (Tables 4 and 5)")
    add_cfg_options(parser)
    parser.add_argument('--out', help='CSV file to write the table to, too')
    args = parser.parse_args()
    if args.shape is not None:
        if len(args.shape) > 2:
            parser.error(f'--shape {args.shape}: one or two numbers')
        args.shape = (args.shape[0], args.shape[-1])
    return args


def figures(count: Complexity) -> list[str]:
    return [
        f'{count.params / 1e6:.3f}',
        f'{count.params_without_group_norm / 1e6:.3f}',
        *(f'{getattr(count, counter) / 1e9:.3f}' for counter in COUNTERS)
    ]


def paper_rows(names: list[str],
               shape: tuple[int, int] | None) -> Iterator[list[str]]:
    rows = [(TABLES[name], row) for name in names for row in TABLES[name].rows]
    for table, row in track(rows, description='rows', transient=True):
        size = shape or table.shape
        count = count_classifier(
            row.backbone, size, mmengine=True, num_classes=row.num_classes)
        cells = [table.title.split(':')[0], row.name, f'{size[0]}x{size[1]}']
        cells += figures(count)
        for paper, counted in ((row.params, count.params_without_group_norm /
                             1e6), (row.flops, count.thop / 1e9)):
            cells += ['-', '-'] if paper is None else [
                f'{paper:g}', f'{100 * (counted / paper - 1):+.2f}%'
            ]
        yield [*cells, row.note]


def trained_size(cfg: Config) -> tuple[int, int]:
    """Size of a classifier's training images."""
    pipeline = cfg.train_dataloader.dataset.pipeline
    size = next(step.size for step in reversed(pipeline) if 'size' in step)
    return (size, size) if isinstance(size, int) else size


def config_rows(configs: list[str], options: dict | None,
                shape: tuple[int, int] | None) -> Iterator[list[str]]:
    for path in configs:
        cfg = read_config(path, options)
        size = shape or (trained_size(cfg) if is_classifier(cfg.model) else
                         DETECTION_SHAPE)
        for part, count in count_parts(cfg.model, size, mmengine=True):
            cells = [str(count)] if isinstance(count, ValueError) else figures(
                count)
            yield [path, part, f'{size[0]}x{size[1]}', *cells]


def fit_rows(rows: tuple[Row, ...]) -> Iterator[list[str]]:
    """One fit by all rows, and one by those as published, which have no note.
    """
    for chosen in (rows, [row for row in rows if not row.note]):
        for fit in fit_image_size(chosen):
            deviations = dict(zip((row.name for row in chosen),
                                  fit.deviations))
            yield [
                fit.counter, f'{fit.cells}', f'{fit.side:.0f}',
                *(f'{100 * deviations[row.name]:+.2f}%'
                  if row.name in deviations else '' for row in rows),
                f'{100 * fit.largest:.2f}%'
            ]


@errors_in_one_line(FileNotFoundError)
def main():
    args = parse_args()
    columns = ['Params', 'seen', 'MACs', 'thop', 'mmengine']
    if args.fit_shape:
        # Table 5 repeats the counts of Table 4
        detection = TABLES['voc'].rows
        columns = ['counter', 'cells of 32x32', 'side of the square',
                   *(row.name for row in detection), 'largest']
        rows = list(fit_rows(detection))
        print_table("Image size nearest to the paper's detection FLOPs",
                    columns, rows)
    elif args.configs:
        columns = ['config', 'part', 'input', *columns]
        rows = list(config_rows(args.configs, args.cfg_options, args.shape))
        print_table('Complexity', columns, rows)
    else:
        columns = [
            'table', 'row', 'input', *columns, 'paper: Params', 'seen - paper',
            'paper: FLOPs', 'thop - paper', 'note'
        ]
        rows = list(paper_rows(args.tables, args.shape))
        # the notes would not fit into a terminal's width
        print_table("Complexity of the paper's rows", columns[:-1],
                    [row[:-1] for row in rows])
        print(*notes(row for name in args.tables for row in TABLES[name].rows),
              sep='\n')
    print(NOTES)
    if args.out is not None:
        write_csv(args.out, columns, rows)


if __name__ == '__main__':
    main()
