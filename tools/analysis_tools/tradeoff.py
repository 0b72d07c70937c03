#!/usr/bin/env python
"""AP or accuracy against parameters and FLOPs, as the paper's Figures 4, 6.

The paper's scores (hollow) of a table, yours (filled) from results.csv of
tools/reproduce.py, or both. The paper gives no numbers for its Figure 4 (split
ratios); reproduce.py with the configs of configs/ablation gives yours:

  tradeoff.py imagenet
  tradeoff.py voc --results work_dirs/reproduce/voc/results.csv
  tradeoff.py --results work_dirs/reproduce/configs/results.csv

Writes tradeoff_NAME.png and .svg.
"""
import os.path as osp

from mmdet_scconv.cli import errors_in_one_line, new_parser
from mmdet_scconv.paper.rows import COCO_STYLE, TABLES
from mmdet_scconv.paper.tradeoff import (
    own_points,
    paper_points,
    tradeoff_figure,
)
from mmdet_scconv.visualization.figures import save_figure


def parse_args():
    parser = new_parser(__doc__)
    parser.add_argument(
        'table', nargs='?', choices=list(TABLES), help='a table of the paper')
    parser.add_argument('--results', help='results.csv of one\'s own')
    parser.add_argument(
        '--metric',
        help='one of the table\'s, e.g. AP@.5 (default: mAP@[.5:.95], for '
        'imagenet top-1)')
    parser.add_argument(
        '--paper-costs',
        action='store_true',
        help="parameters and FLOPs of the paper's rows as the paper prints "
        'them (default: counted here)')
    parser.add_argument('--out-dir', default='.', help='default: .')
    args = parser.parse_args()
    if args.table is None and args.results is None:
        parser.error('name a table, --results, or both')
    return args


@errors_in_one_line(FileNotFoundError, ValueError)
def main():
    args = parse_args()
    table = TABLES.get(args.table)
    metrics = table.metrics if table else COCO_STYLE
    metric = args.metric or [*metrics][min(len(metrics), 3) - 1]
    if metric not in metrics:
        raise ValueError(f'--metric {metric!r} is not valid: one of '
                         f'{", ".join(metrics)}')
    paper = paper_points(table, metric, not args.paper_costs) if table else []
    own = own_points(args.results, metrics[metric]) if args.results else []
    if not paper and not own:
        raise ValueError(f'the paper has no {metric} for {args.table}: name '
                         '--results')
    costs = 'parameters and FLOPs of the backbone with fc'
    if table:
        costs += f' at {table.shape[0]}x{table.shape[1]}'
    costs += ", the paper's own" if args.paper_costs else \
        ", counted by thop's rule without GroupNorm"
    figure = tradeoff_figure(
        table.title if table else osp.basename(args.results), metric, paper,
        own, costs)
    name = f'tradeoff_{args.table or "own"}'
    print(*save_figure(figure, osp.join(args.out_dir, name)))


if __name__ == '__main__':
    main()
