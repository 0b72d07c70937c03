#!/usr/bin/env python
"""Write scikit-learn's handwritten digits as a classification data set."""
import argparse

from mmdet_scconv.classification import make_digit_folders
from mmdet_scconv.cli import errors_in_one_line


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        'root', nargs='?', default='data/digit_folders', help='folder to make')
    parser.add_argument(
        '--size', type=int, default=64, help='side of an image in pixels')
    parser.add_argument(
        '--seed', type=int, default=0, help='random seed of the split')
    return parser.parse_args()


@errors_in_one_line(ValueError, FileExistsError, ImportError)
def main():
    args = parse_args()
    counts = make_digit_folders(**vars(args))
    print(f'{args.root}: {counts["train"]} training and {counts["val"]} '
          'validation images')


if __name__ == '__main__':
    main()
