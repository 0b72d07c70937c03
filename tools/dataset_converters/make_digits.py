#!/usr/bin/env python
"""Make the digits detection data set, in COCO and in VOC format."""
import argparse

from mmdet_scconv.cli import errors_in_one_line
from mmdet_scconv.datasets import make_digits


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        'root', nargs='?', default='data/digits', help='folder to make')
    parser.add_argument(
        '--num-train', type=int, default=500, help='training images')
    parser.add_argument(
        '--num-val', type=int, default=100, help='validation images')
    parser.add_argument(
        '--size', type=int, default=128, help='side of an image in pixels')
    parser.add_argument('--seed', type=int, default=0, help='random seed')
    return parser.parse_args()


@errors_in_one_line(ValueError, FileExistsError, ImportError)
def main():
    args = parse_args()
    make_digits(**vars(args))
    print(f'{args.root}: {args.num_train} training and {args.num_val} '
          'validation images')


if __name__ == '__main__':
    main()
