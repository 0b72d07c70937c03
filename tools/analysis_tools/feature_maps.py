#!/usr/bin/env python
"""Feature maps of a stage with and without SRU, for your image.

Writes, as PNG and SVG:
  stage  the stage's output with and without its SRUs (the poster's Figure 5).
         Without: the same weights, SRUs bypassed; or another model, with
         --dense
  sru    input, informative and non-informative part and output of one SRU
  gate   the share of the channels above the SRU's threshold, over the image
"""
import os.path as osp

from mmdet_scconv.cli import (
    add_cfg_options,
    at_least,
    errors_in_one_line,
    new_parser,
)
from mmdet_scconv.config import read_config
from mmdet_scconv.visualization.feature_maps import (
    gate_figure,
    sru_figure,
    sru_maps,
    srus_of,
    stage_figure,
    stage_output,
)
from mmdet_scconv.visualization.figures import save_figure
from mmdet_scconv.visualization.models import (
    load_model,
    read_picture,
)


def parse_args():
    parser = new_parser(__doc__)
    parser.add_argument('image', help='image file')
    parser.add_argument('config', help='config with an SCConv backbone')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='its weights (without: random ones, which show nothing learned)')
    parser.add_argument(
        '--stage', type=int, default=1, help='from 1 on (default: 1)')
    parser.add_argument(
        '--block',
        type=int,
        help="block of the stage whose SRU is shown, from 1 on (default: the "
        "stage's last)")
    parser.add_argument(
        '--dense',
        nargs=2,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='a model without SRU to compare the stage with')
    parser.add_argument(
        '--channels',
        type=at_least(1),
        default=8,
        help='channels of the SRU, and the rows and columns of the stage '
        '(default: 8)')
    parser.add_argument('--device', default='cpu', help='default: cpu')
    parser.add_argument(
        '--out-dir', default='feature_maps', help='default: feature_maps')
    add_cfg_options(parser)
    return parser.parse_args()


@errors_in_one_line(FileNotFoundError, ValueError)
def main():
    args = parse_args()
    cfg = read_config(args.config, args.cfg_options)
    model = load_model(cfg, args.checkpoint, args.device)
    picture = read_picture(model, cfg, args.image)
    srus = list(srus_of(model, args.stage))
    block = len(srus) if args.block is None else args.block
    if not 1 <= block <= len(srus):
        raise ValueError(f'--block {block}: stage {args.stage} has SRUs in '
                         f'{len(srus)} blocks')
    if args.dense is None:
        without = 'SRUs bypassed (same weights)', stage_output(
            model, picture, args.stage, bypass_sru=True)
    else:
        dense_cfg = read_config(args.dense[0])
        dense = load_model(dense_cfg, args.dense[1], args.device)
        without = osp.basename(args.dense[0]), stage_output(
            dense, read_picture(dense, dense_cfg, args.image), args.stage)
    maps = sru_maps(model, picture, srus[block - 1])
    figures = dict(
        stage=stage_figure({
            f'stage {args.stage}, {without[0]}': without[1],
            f'stage {args.stage}, with SRUs':
            stage_output(model, picture, args.stage)
        }, args.channels, aligned=args.dense is None),
        sru=sru_figure(maps, args.channels),
        gate=gate_figure(maps, picture))
    for name, figure in figures.items():
        print(*save_figure(figure, osp.join(args.out_dir, name)))
    print(f'{maps.name}: {100 * maps.share.mean():.1f}% of the values pass '
          'the threshold' +
          ('' if args.checkpoint else '; weights are random: no checkpoint '
           'was named'))


if __name__ == '__main__':
    main()
