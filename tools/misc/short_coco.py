#!/usr/bin/env python
"""Make a config for a short training of a COCO row that needs no download.

FOLDER gets config.py, which inherits from CONFIG, and weights.pth: random ones
with the BatchNorm statistics that random images leave, so that a backbone with
frozen statistics can start from them. Where COCO is not in data/coco, FOLDER
gets generated images of its size, too. For times and memory; what is learnt
says nothing. Then:

    python tools/train.py FOLDER/config.py [--amp]
"""
import argparse
import os.path as osp
from pathlib import Path

import torch
from mmengine.registry import init_default_scope
from mmengine.utils import import_modules_from_strings

from mmdet_scconv.benchmark import models
from mmdet_scconv.benchmark.cases import Case
from mmdet_scconv.cli import errors_in_one_line, read_config_file
from mmdet_scconv.datasets.rehearsal import write_coco_sample

COCO = osp.join('data', 'coco')
CONFIG = """_base_ = {base!r}

model = dict(backbone=dict(init_cfg=dict(checkpoint={weights!r})))
train_cfg = dict(max_epochs=1, val_begin=2)
train_dataloader = dict(
    batch_size={batch}, dataset=dict({data}indices={images}))
default_hooks = dict(logger=dict(interval={interval}))
"""
GENERATED = """data_root={folder!r}, ann_file='instances.json',
                                 data_prefix=dict(img='images/'), """
# the runner asks for them before a training
TEST_DATA = """val_dataloader = dict(dataset=dict({data}))
val_evaluator = dict(ann_file={annotations!r})
"""


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help="of one of the COCO table's rows")
    parser.add_argument('folder')
    parser.add_argument(
        '--iterations', type=int, default=100, help='default: 100')
    parser.add_argument(
        '--batch', type=int, default=2, help='images a step (default: 2)')
    parser.add_argument(
        '--size', nargs=2, type=int, default=(480, 640),
        metavar=('HEIGHT', 'WIDTH'),
        help='of generated images, in pixels (default: 480 640)')
    args = parser.parse_args()
    if min(args.iterations, args.batch, *args.size) < 1:
        parser.error('--iterations, --batch and --size: numbers >= 1')
    return args


def write_weights(config: str, path: Path) -> None:
    init_default_scope('mmdet')
    cfg = read_config_file(config)
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg.custom_imports)
    backbone = models.build(cfg.model, 'as-is', Case())
    torch.save(backbone.state_dict(), path)


@errors_in_one_line()
def main():
    args = parse_args()
    folder = Path(args.folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    images = args.iterations * args.batch
    weights = folder / 'weights.pth'
    write_weights(args.config, weights)
    text = CONFIG
    data = ''
    if not osp.exists(osp.join(COCO, 'annotations',
                               'instances_train2017.json')):
        write_coco_sample(str(folder), images, tuple(args.size))
        data = GENERATED.format(folder=f'{folder}/')
        text += TEST_DATA
    path = folder / 'config.py'
    path.write_text(text.format(
        base=osp.abspath(args.config), weights=str(weights), data=data,
        batch=args.batch, images=images,
        interval=max(args.iterations // 10, 1),
        annotations=str(folder / 'instances.json')))
    print(f'{path}: {args.iterations} iterations of {args.batch} '
          + ('generated images' if data else f'images of {COCO}'))


if __name__ == '__main__':
    main()
