#!/usr/bin/env python
"""How similar the channels after each 3x3 convolution are.

Compares backbones, e.g. dense with SCConv, on your images: effective
rank (Roy and Vetterli, 2007) and mean absolute correlation of the channels
after each conv2 and its norm. Writes redundancy.csv, .png and .svg.

  redundancy.py IMAGES --model DENSE.py DENSE.pth --model SCCONV.py SCCONV.pth
"""
import os.path as osp
import sys

from rich.progress import track

from mmdet_scconv.cli import (
    at_least,
    errors_in_one_line,
    find_images,
    new_parser,
)
from mmdet_scconv.config import read_config
from mmdet_scconv.tables import write_csv
from mmdet_scconv.visualization.figures import save_figure
from mmdet_scconv.visualization.models import (
    load_model,
    read_picture,
)
from mmdet_scconv.visualization.redundancy import (
    COLUMNS,
    measure,
    redundancy_figure,
)


def parse_args():
    parser = new_parser(__doc__)
    parser.add_argument(
        'images', nargs='+', help='image files, or folders of images')
    parser.add_argument(
        '--model',
        nargs='+',
        action='append',
        required=True,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='a config and its weights (without: random ones); once for each '
        'model')
    parser.add_argument(
        '--number',
        type=at_least(1),
        default=16,
        help='how many of the images, the first ones (default: 16)')
    parser.add_argument('--device', default='cpu', help='default: cpu')
    parser.add_argument(
        '--out-dir', default='redundancy', help='default: redundancy')
    args = parser.parse_args()
    for model in args.model:
        if len(model) > 2:
            parser.error(f'--model {" ".join(model)}: a config and at most '
                         'one checkpoint')
    return args


@errors_in_one_line(FileNotFoundError, ValueError)
def main():
    args = parse_args()
    images = find_images(args.images)[:args.number]
    results = []
    for config, *checkpoint in args.model:
        cfg = read_config(config)
        model = load_model(cfg, *checkpoint, device=args.device)
        name = osp.splitext(osp.basename(config))[0]
        if not checkpoint:
            name += ' (random weights)'
        alike = {r.model for r in results if r.model.startswith(name)}
        if alike:
            name += f', {len(alike) + 1}'
        results += measure(
            name, model,
            (read_picture(model, cfg, image)
             for image in track(images, description=osp.basename(config))))
    prefix = osp.join(args.out_dir, 'redundancy')
    write_csv(f'{prefix}.csv', COLUMNS, [r.row() for r in results])
    print(f'{prefix}.csv', *save_figure(redundancy_figure(results), prefix))
    few = [f'{r.model} {r.layer}' for r in results if r.positions < r.channels]
    if few:
        print('Fewer positions than channels, which makes them look '
              'redundant; take more or larger images: ' + ', '.join(few),
              file=sys.stderr)


if __name__ == '__main__':
    main()
