#!/usr/bin/env python
"""Loss, learning rate and validation scores of work dirs over the training.

One work dir: every part of the loss and every score. Several: the total loss
and one score of each, to compare them. Resumed trainings are joined. Writes
training_curves.png and .svg.
"""
import os.path as osp

from mmdet_scconv.cli import errors_in_one_line, new_parser
from mmdet_scconv.errors import UserError
from mmdet_scconv.visualization.figures import save_figure
from mmdet_scconv.visualization.training_curves import (
    curves_figure,
    read_curves,
)


def parse_args():
    parser = new_parser(__doc__)
    parser.add_argument(
        'work_dirs', nargs='+', metavar='WORK_DIR', help='of tools/train.py')
    parser.add_argument(
        '--score',
        help='score to compare several by, e.g. coco/bbox_mAP (default: the '
        'first that was logged)')
    parser.add_argument('--out-dir', default='.', help='default: .')
    return parser.parse_args()


@errors_in_one_line(FileNotFoundError)
def main():
    args = parse_args()
    runs = {osp.normpath(path): read_curves(path) for path in args.work_dirs}
    known = {key for curves in runs.values() for key in curves.validation}
    if args.score is not None and args.score not in known:
        raise UserError(f'--score {args.score!r} was not logged, but '
                        f'{", ".join(sorted(known)) or "none"}')
    print(*save_figure(
        curves_figure(runs, args.score),
        osp.join(args.out_dir, 'training_curves')))


if __name__ == '__main__':
    main()
