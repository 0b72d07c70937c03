#!/usr/bin/env python
"""Convert PASCAL VOC annotations to one COCO annotation file."""
import argparse

from mmdet_scconv.cli import errors_in_one_line
from mmdet_scconv.datasets import voc_to_coco


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Example: voc_to_coco.py data/VOCdevkit '
        'VOC2007/ImageSets/Main/trainval.txt '
        'VOC2012/ImageSets/Main/trainval.txt '
        '--out data/VOCdevkit/annotations/voc0712_trainval.json')
    parser.add_argument(
        'data_root', help='folder that image paths will be relative to')
    parser.add_argument(
        'image_sets',
        nargs='+',
        help='lists of image names, relative to data_root')
    parser.add_argument('--out', required=True, help='JSON file to write')
    parser.add_argument(
        '--classes', nargs='+', help='class names (default: PASCAL VOC\'s 20)')
    return parser.parse_args()


@errors_in_one_line(FileNotFoundError, ValueError)
def main():
    args = parse_args()
    options = dict(classes=args.classes) if args.classes else {}
    counts = voc_to_coco(args.data_root, args.image_sets, args.out, **options)
    print(f'{args.out}: {counts["images"]} images, {counts["boxes"]} boxes, '
          f'{counts["difficult"]} of them difficult (kept as ignored). Left '
          f'out: {counts["unusable"]} boxes without area or outside, '
          f'{counts["other_classes"]} of other classes')


if __name__ == '__main__':
    main()
