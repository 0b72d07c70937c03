#!/usr/bin/env python
"""Put COCO 2017 or PASCAL VOC 07+12 where the configs look for them.

Downloads (resumed where they were interrupted, checked by their MD5) or takes
archives that are there already, unpacks, and counts. Run again, it repairs
what is missing. VOC is also converted to COCO format.
"""

from mmdet_scconv.cli import errors_in_one_line, new_parser
from mmdet_scconv.datasets.downloads import read_sums
from mmdet_scconv.datasets.prepare import prepare
from mmdet_scconv.datasets.sources import SOURCES


def parse_args():
    parser = new_parser(__doc__)
    parser.add_argument('dataset', choices=list(SOURCES))
    parser.add_argument('--root', default='data', help='default: data')
    parser.add_argument(
        '--archives',
        metavar='FOLDER',
        help='where archives are that were downloaded by other means')
    parser.add_argument(
        '--no-download',
        action='store_true',
        help='only check, and unpack archives that are there')
    parser.add_argument(
        '--md5',
        metavar='FILE',
        help='sums of the archives, as md5sum writes them, where they are '
        'not the official ones (packed anew, a mirror)')
    return parser.parse_args()


@errors_in_one_line()
def main():
    args = parse_args()
    lines = prepare(SOURCES[args.dataset], args.root, args.archives,
                    not args.no_download,
                    read_sums(args.md5) if args.md5 else None)
    print('\n'.join([*lines, f'{args.dataset} is complete in {args.root}']))


if __name__ == '__main__':
    main()
