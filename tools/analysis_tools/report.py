#!/usr/bin/env python
"""One HTML file about a training: curves, AP, pictures, speed, complexity.

Takes a work dir of tools/train.py. The last checkpoint is run on the test data
(kept as WORK_DIR/predictions.pkl), so call it from the folder that data/ is
in. The file needs no other file and no network. If the work dir is incomplete,
the report names what is missing.
"""
import os.path as osp

import torch
from rich.progress import track

from mmdet_scconv.cli import at_least, errors_in_one_line, new_parser
from mmdet_scconv.visualization.report import build_report
from mmdet_scconv.visualization.report_data import Options


def parse_args():
    parser = new_parser(__doc__)
    parser.add_argument('work_dir', help='work dir of tools/train.py')
    parser.add_argument(
        '--out', help='file to write (default: WORK_DIR/report.html)')
    parser.add_argument(
        '--predictions',
        help='.pkl file of tools/test.py --out, instead of a test')
    parser.add_argument(
        '--no-test',
        action='store_true',
        help='do not run the model: no speed, and AP and pictures from '
        'predictions that are there')
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='default: a GPU where there is one')
    parser.add_argument(
        '--pictures',
        type=at_least(1),
        default=6,
        help='best and worst ones, each (default: 6)')
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='lowest score of a box in a picture (default: 0.3)')
    return parser.parse_args()


@errors_in_one_line(FileNotFoundError)
def main():
    args = parse_args()
    options = Options(
        args.predictions, not args.no_test, args.device, args.pictures,
        args.score_thr, lambda loader: track(loader, description='test'))
    page, sections = build_report(args.work_dir, options)
    path = args.out or osp.join(args.work_dir, 'report.html')
    with open(path, 'w', encoding='utf-8') as f:
        f.write(page)
    print(f'{path}: {len(page) / 1e6:.1f} MB')
    for section in sections:
        if section.missing:
            print(f'  {section.title}: missing. {section.missing}')


if __name__ == '__main__':
    main()
