#!/usr/bin/env python
"""Start an SCConv-ResNet from the checkpoint of an ordinary ResNet.

Takes names of torchvision, timm and MM, R18 to R152, also the backbone of a
detector. Everything but the SCConvs is copied; they are fitted in closed form
to the 3x3 convolutions that they replace (--method fit), then trained block by
block on unlabelled images (--method distill). The result is for
init_cfg=dict(type='Pretrained', checkpoint=OUT) of the backbone. Interrupted,
the same command goes on from the last finished block.
"""
import argparse

import torch
from mmengine.config import DictAction

from mmdet_scconv.tables import print_table
from mmdet_scconv.warm_start.blocks import METHODS, BlockReport
from mmdet_scconv.warm_start.convert import Conversion, resnet_to_scconv


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'source', help='checkpoint: file, URL or torchvision://NAME')
    parser.add_argument('out', help='file to write: .pth or .safetensors')
    parser.add_argument(
        '--config',
        help='detection config: settings of its backbone, its normalisation, '
        'and without --images its training images')
    images = parser.add_mutually_exclusive_group()
    images.add_argument(
        '--images',
        metavar='FOLDER',
        help='folder of images, no labels needed')
    images.add_argument(
        '--generated-images',
        action='store_true',
        help='noise with the spectrum of photographs, for want of images')
    parser.add_argument(
        '--method',
        choices=METHODS,
        default='fit',
        help='what to do about the SCConvs: leave them random, fit them, fit '
        'and distil them (default: fit)')
    parser.add_argument(
        '--whole-detector',
        action='store_true',
        help='keep the neck and heads of a detector beside the backbone: the '
        'result is for load_from')
    parser.add_argument(
        '--depth', type=int, help='default: as the source; checked if given')
    parser.add_argument(
        '--conv2-cfg',
        nargs='+',
        action=DictAction,
        help='options of SCConv, e.g. alpha=0.75')
    parser.add_argument(
        '--num-images', type=int, default=64, help='default: 64')
    parser.add_argument(
        '--size',
        type=int,
        default=224,
        help='side of the crops that are taken of the images, in pixels '
        '(default: 224)')
    parser.add_argument(
        '--steps',
        type=int,
        default=200,
        help='distillation: steps for each block, 8 crops each (default: '
        '200)')
    parser.add_argument(
        '--lr',
        type=float,
        default=1e-3,
        help="distillation: Adam's learning rate (default: 0.001)")
    parser.add_argument('--seed', type=int, default=0, help='default: 0')
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='default: cuda where there is one')
    return parser.parse_args()


def percent(share: float | None) -> str:
    return '-' if share is None else f'{100 * share:.1f}'


def print_reports(reports: list[BlockReport]) -> None:
    print_table(
        'Variance missed (%), on images held out',
        ['block', 'conv2, initial', 'fitted', 'block, initial', 'fitted',
         'distilled', 'ridge', 's'],
        [[r.name, *map(percent, (
            r.conv2_initial, r.conv2_fitted, r.block_initial, r.block_fitted,
            r.block_distilled)), f'{r.ridge:g}', f'{r.seconds:.1f}']
         for r in reports])


def main():
    args = parse_args()
    backbone = {}
    if args.depth is not None:
        backbone['depth'] = args.depth
    if args.conv2_cfg is not None:
        backbone['conv2_cfg'] = args.conv2_cfg
    options = Conversion(
        args.method, args.whole_detector, backbone, args.config, args.images,
        args.generated_images, args.num_images, args.size, args.steps,
        args.lr, args.seed, args.device)
    try:
        reports = resnet_to_scconv(args.source, args.out, options)
    except (ValueError, FileNotFoundError, ImportError) as error:
        raise SystemExit(f'resnet_to_scconv: {error}') from None
    except KeyboardInterrupt:
        raise SystemExit('\nresnet_to_scconv: interrupted; the same command '
                         'goes on from here') from None
    if reports:
        print_reports(reports)
    use = (f'load_from = {args.out!r}' if args.whole_detector else
           "model = dict(backbone=dict(init_cfg=dict(type='Pretrained', "
           f'checkpoint={args.out!r})))')
    print(f'Written: {args.out}. Use it as\n  {use}')


if __name__ == '__main__':
    main()
