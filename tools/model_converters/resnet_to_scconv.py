#!/usr/bin/env python
"""Convert the checkpoint of a dense ResNet to an SCConv-ResNet.

Takes names of torchvision, timm and MM, R18 to R152 and ResNeXts, also the
backbone of a detector, and ResNets for CIFAR (R20 to R110, also with shortcuts
without weights). Everything but the swapped convolutions is copied; they are
fitted to the 3x3 convolutions that they replace, on images without labels
(docs/warm_start.md). The result is for init_cfg=dict(type='Pretrained',
checkpoint=OUT) of the backbone.
"""
import torch
from mmengine.config import DictAction

from mmdet_scconv.cli import new_parser
from mmdet_scconv.tables import print_table
from mmdet_scconv.warm_start import LayerReport
from mmdet_scconv.warm_start.convert import (
    METHODS,
    Conversion,
    resnet_to_scconv,
)
from mmdet_scconv.warm_start.distill import (
    LR,
    STEPS,
    STEPS_OF_SCORES,
)


def parse_args():
    parser = new_parser(__doc__)
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
        help='random images with the spectrum of photographs, if there are '
        'no others: a detector that is not trained further loses 6 to 45 AP '
        'more')
    parser.add_argument(
        '--method',
        choices=METHODS,
        default='fit',
        help='what to do about the swapped convolutions: leave them randomly '
        'initialised, fit them, fit them and train them towards the outputs '
        'of the dense network (default: fit)')
    parser.add_argument(
        '--whole-detector',
        '--whole-classifier',
        dest='whole',
        action='store_true',
        help='keep the neck and heads of a detector, or the last layer of a '
        'classifier (with its --config), beside the backbone: the result is '
        'for load_from and tools/test.py')
    parser.add_argument(
        '--depth', type=int, help='default: as the source; checked if given')
    parser.add_argument(
        '--conv2-cfg',
        nargs='+',
        action=DictAction,
        help='options of SCConv, e.g. alpha=0.75')
    parser.add_argument(
        '--num-images',
        type=int,
        help='default: as many as have the area of 64 of 224 pixels')
    parser.add_argument(
        '--size',
        type=int,
        default=224,
        help='side of the crops that are taken of the images, in pixels '
        '(default: 224)')
    parser.add_argument(
        '--steps',
        type=int,
        help='distillation: steps, 32 crops each (default: '
        f"{STEPS}, with a classifier's last layer {STEPS_OF_SCORES})")
    parser.add_argument(
        '--lr',
        type=float,
        default=LR,
        help="distillation: Adam's highest learning rate (default: "
        '%(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='default: 0')
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='default: cuda where there is one')
    return parser.parse_args()


def print_reports(reports: list[LayerReport]) -> None:
    print_table(
        'Unexplained variance of the outputs (%), on images held out',
        ['layer', 'fitted by', 'unexplained', 's'],
        [[r.name, r.method, f'{100 * r.unexplained:.1f}', f'{r.seconds:.1f}']
         for r in reports])


def main():
    args = parse_args()
    backbone = {}
    if args.depth is not None:
        backbone['depth'] = args.depth
    if args.conv2_cfg is not None:
        backbone['conv2_cfg'] = args.conv2_cfg
    options = Conversion(
        args.method, args.whole, backbone, args.config, args.images,
        args.generated_images, args.num_images, args.size, args.steps,
        args.lr, args.seed, args.device)
    try:
        reports = resnet_to_scconv(args.source, args.out, options)
    except (ValueError, FileNotFoundError, ImportError) as error:
        raise SystemExit(f'resnet_to_scconv: {error}') from None
    except KeyboardInterrupt:
        raise SystemExit('\nresnet_to_scconv: interrupted; nothing was '
                         'written') from None
    if reports:
        print_reports(reports)
    use = (f'load_from = {args.out!r}' if args.whole else
           "model = dict(backbone=dict(init_cfg=dict(type='Pretrained', "
           f'checkpoint={args.out!r})))')
    print(f'Written: {args.out}. Use it as\n  {use}')


if __name__ == '__main__':
    main()
