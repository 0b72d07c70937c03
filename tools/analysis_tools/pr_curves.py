#!/usr/bin/env python
"""Precision-recall curves of each class and IoU threshold.

From the predictions that tools/test.py dumped (--out FILE.pkl) and the
annotations of the config's test data set. Run it from the folder that data/
is in. Writes pr_curves.csv (101 recalls for each class and threshold), .png
and .svg.

  test.py CONFIG CHECKPOINT --out predictions.pkl
  pr_curves.py CONFIG predictions.pkl
"""
import os.path as osp

from mmdet_scconv.cli import add_cfg_options, errors_in_one_line, new_parser
from mmdet_scconv.config import read_config
from mmdet_scconv.tables import write_csv
from mmdet_scconv.visualization.evaluation import evaluate
from mmdet_scconv.visualization.figures import save_figure
from mmdet_scconv.visualization.pr_curves import COLUMNS, curve_rows, pr_figure
from mmdet_scconv.visualization.predictions import (
    build_dataset,
    read_predictions,
)


def parse_args():
    parser = new_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('predictions', help='.pkl file of tools/test.py --out')
    parser.add_argument(
        '--iou',
        type=float,
        default=0.5,
        help='threshold of the curves by class, 0.5 to 0.95 (default: 0.5)')
    parser.add_argument(
        '--classes',
        nargs='+',
        default=[],
        help='classes in the figure (default: all; of more than ten, the five '
        'best and the five worst)')
    parser.add_argument('--out-dir', default='.', help='default: .')
    add_cfg_options(parser)
    return parser.parse_args()


@errors_in_one_line(FileNotFoundError, ValueError)
def main():
    args = parse_args()
    cfg = read_config(args.config, args.cfg_options)
    evaluation = evaluate(
        build_dataset(cfg), read_predictions(args.predictions))
    figure = pr_figure(evaluation, args.iou, args.classes)
    prefix = osp.join(args.out_dir, 'pr_curves')
    write_csv(f'{prefix}.csv', COLUMNS, list(curve_rows(evaluation)))
    print(f'{prefix}.csv', *save_figure(figure, prefix))


if __name__ == '__main__':
    main()
