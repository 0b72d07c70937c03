#!/usr/bin/env python
"""Write pictures of a config's data set as the model gets it, with its boxes.

Training pictures are the augmented ones. Boxes that are ignored (difficult,
crowd) are not drawn.
"""
import os.path as osp

import numpy as np
from mmdet.registry import DATASETS, VISUALIZERS
from mmdet.structures.bbox import BaseBoxes
from rich.progress import track

from mmdet_scconv.cli import (
    add_cfg_options,
    at_least,
    errors_in_one_line,
    new_parser,
)
from mmdet_scconv.config import read_config
from mmdet_scconv.visualization.fonts import use_font_for


def parse_args():
    parser = new_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--split',
        choices=['train', 'val', 'test'],
        default='train',
        help='default: train')
    parser.add_argument(
        '--out-dir', default='browse', help='default: browse')
    parser.add_argument(
        '--number',
        type=at_least(1),
        default=20,
        help='how many pictures, evenly over the data set (default: 20)')
    add_cfg_options(parser)
    return parser.parse_args()


@errors_in_one_line(FileNotFoundError)
def main():
    args = parse_args()
    cfg = read_config(args.config, args.cfg_options)
    dataset = DATASETS.build(cfg[f'{args.split}_dataloader'].dataset)
    visualizer = VISUALIZERS.build(cfg.visualizer)
    visualizer.dataset_meta = dataset.metainfo
    use_font_for(tuple(dataset.metainfo['classes']))
    number = min(args.number, len(dataset))
    boxes = 0
    for i in track(
            np.linspace(0, len(dataset) - 1, number, dtype=int),
            description='pictures'):
        item = dataset[int(i)]
        sample = item['data_samples']
        instances = sample.gt_instances
        if isinstance(instances.bboxes, BaseBoxes):  # what it cannot draw
            instances.bboxes = instances.bboxes.tensor
        boxes += len(instances)
        name = osp.splitext(osp.basename(sample.img_path))[0]
        visualizer.add_datasample(
            name,
            item['inputs'].permute(1, 2, 0).numpy()[..., ::-1],  # to RGB
            sample,
            draw_pred=False,
            out_file=osp.join(args.out_dir, f'{int(i):06d}_{name}.jpg'))
    print(f'{args.out_dir}: {number} of {len(dataset)} pictures, '
          f'{boxes} boxes')


if __name__ == '__main__':
    main()
