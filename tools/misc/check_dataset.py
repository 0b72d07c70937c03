#!/usr/bin/env python
"""Check the data that a config trains, validates and tests on.

Reads every annotation and every image, and lists what is damaged, missing or
wrong, each with what is done about it:

  repaired   nothing is lost (a missing iscrowd is 0); one line a kind
  warning    left out, clipped, or of doubtful meaning; a training starts
  refused    no training or evaluation starts

Exit code 1 if there is any warning, or anything is refused.
"""
from collections import Counter
from collections.abc import Iterator

from mmdet_scconv.cli import add_cfg_options, errors_in_one_line, new_parser
from mmdet_scconv.config import read_config
from mmdet_scconv.datasets.check import (
    SPLITS,
    find_problems,
    problems_between,
)
from mmdet_scconv.datasets.findings import Finding


def parse_args():
    parser = new_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--split',
        choices=SPLITS,
        help='only this one (default: all that the config has)')
    add_cfg_options(parser)
    return parser.parse_args()


def report(split: str, findings: Iterator[Finding]) -> Counter:
    """Print all findings; count them by verdict."""
    counts = Counter()
    while True:
        try:
            finding = next(findings)
        except StopIteration as end:
            print(f'{split}: {end.value} images, {counts["warning"]} '
                  f'warnings, {counts["refused"]} refused, '
                  f'{counts["repaired"]} kinds of repairs')
            return counts
        print(f'{split}: {finding}')
        counts[finding.verdict] += 1


@errors_in_one_line()
def main():
    args = parse_args()
    cfg = read_config(args.config, args.cfg_options)
    splits = [args.split] if args.split else [
        split for split in SPLITS if cfg.get(f'{split}_dataloader')
    ]
    done, total = [], Counter()
    for split in splits:
        dataset = cfg[f'{split}_dataloader'].dataset
        if dataset in done:
            continue
        done.append(dataset)
        try:
            total += report(split, find_problems(dataset))
        except Exception as error:  # other data sets raise any error
            raise SystemExit(
                f'{split}: {type(error).__name__}: {error}') from None
    for split, finding in problems_between(cfg):
        if split in splits:
            print(f'{split}: {finding}')
            total[finding.verdict] += 1
    if total['warning'] or total['refused']:
        raise SystemExit(1)


if __name__ == '__main__':
    main()
