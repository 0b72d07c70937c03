#!/usr/bin/env python
"""Check the data that a config trains, validates and tests on.

Reads every annotation and every image, and lists what is damaged, missing or
not as annotated. Exit code 1 if there is anything.
"""
import argparse

from mmdet.registry import DATASETS
from mmengine.config import DictAction
from mmengine.registry import init_default_scope

from mmdet_scconv.cli import read_config_file
from mmdet_scconv.datasets.check import find_flaws

SPLITS = ('train', 'val', 'test')


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--split',
        choices=SPLITS,
        help='only this one (default: all that the config has)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config')
    return parser.parse_args()


def main():
    args = parse_args()
    cfg = read_config_file(args.config)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    done, total = [], 0
    for split in [args.split] if args.split else SPLITS:
        loader = cfg.get(f'{split}_dataloader')
        if loader is None or loader.dataset in done:
            continue
        done.append(loader.dataset)
        try:
            dataset = DATASETS.build(loader.dataset)
            flaws = list(find_flaws(dataset))
        except Exception as error:  # said as it is, whatever the data set
            raise SystemExit(
                f'{split}: {type(error).__name__}: {error}') from None
        for file, flaw in flaws:
            print(f'{split}: {file}: {flaw}')
        print(f'{split}: {len(dataset)} images, {len(flaws)} flaws')
        total += len(flaws)
    if total:
        raise SystemExit(1)


if __name__ == '__main__':
    main()
