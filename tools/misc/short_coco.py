#!/usr/bin/env python
"""Make a config for a short training of a COCO row that needs no download.

FOLDER gets config.py and weights.pth: random ones with the BatchNorm
statistics of some of the images, so that a backbone with frozen statistics can
start from them. Where COCO is not in data/coco, FOLDER gets generated images
of its size, too. For times and memory; what is learnt says nothing. Then:

    python tools/train.py FOLDER/config.py [--amp]
"""
import os.path as osp
from pathlib import Path

import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import Tensor

from mmdet_scconv.benchmark import models
from mmdet_scconv.benchmark.cases import Case
from mmdet_scconv.cli import at_least, errors_in_one_line, new_parser
from mmdet_scconv.config import read_config
from mmdet_scconv.datasets.rehearsal import write_coco_sample

COCO = osp.join('data', 'coco', 'annotations', 'instances_train2017.json')
# With the row's 0.02, random weights under frozen statistics diverge within
# twenty iterations of whole images.
LEARNING_RATE = 1e-5
RESIZED = 2  # the transform that sets the size, in MMDetection's pipeline


def parse_args():
    parser = new_parser(__doc__)
    parser.add_argument('config', help="of one of the COCO table's rows")
    parser.add_argument('folder')
    parser.add_argument(
        '--iterations', type=at_least(1), default=100, help='default: 100')
    parser.add_argument(
        '--batch', type=at_least(1), default=2,
        help='images a step (default: 2)')
    parser.add_argument(
        '--size', nargs=2, type=at_least(1), metavar=('HEIGHT', 'WIDTH'),
        help="of the network's input, in pixels (default: as in CONFIG)")
    return parser.parse_args()


def use_generated_images(cfg: Config, folder: Path, count: int) -> None:
    """For the training, and as test data, which the runner asks for."""
    write_coco_sample(str(folder), count)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.update(
            data_root=f'{folder}/', ann_file='instances.json',
            data_prefix=dict(img='images/'))
    cfg.val_evaluator.ann_file = str(folder / 'instances.json')


def first_images(cfg: Config, count: int = 16) -> Tensor:
    """What the network gets of the training's first images, as one batch.

    Of fewer the statistics do not hold for other images, on which activations
    then grow from block to block.
    """
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    batch = pseudo_collate([dataset[i % len(dataset)] for i in range(count)])
    preprocess = MODELS.build(cfg.model.data_preprocessor)
    return preprocess(batch, training=True)['inputs']


@errors_in_one_line()
def main():
    args = parse_args()
    folder = Path(args.folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    cfg = read_config(args.config)
    count = args.iterations * args.batch
    generated = not osp.exists(COCO)
    if generated:
        use_generated_images(cfg, folder, count)
    cfg.train_cfg.update(max_epochs=1, val_begin=2)
    cfg.optim_wrapper.optimizer.lr = LEARNING_RATE
    cfg.train_dataloader.batch_size = args.batch
    cfg.train_dataloader.dataset.indices = count
    cfg.default_hooks.logger.interval = max(args.iterations // 10, 1)
    if args.size:
        cfg.train_dataloader.dataset.pipeline[RESIZED].scale = \
            tuple(args.size[::-1])
    weights = folder / 'weights.pth'
    backbone = models.build(cfg.model, 'as-is', Case())
    models.set_norm_statistics(backbone, first_images(cfg))
    torch.save(backbone.state_dict(), weights)
    cfg.model.backbone.init_cfg.checkpoint = str(weights)
    cfg.dump(folder / 'config.py')
    print(f'{folder / "config.py"}: {args.iterations} iterations of '
          f'{args.batch} {"generated images" if generated else "images"}')


if __name__ == '__main__':
    main()
