"""The rows of the paper's tables: the list that all tools and docs read.

Source of every number of the paper's: SCConv, CVPR 2023, Tables 1 to 5. All of
their rows are here. If no network with the paper's counts was found, the row's
network is the closest one, and its note says so.
"""
from .cifar_rows import CIFAR_TABLES
from .table import (
    OCTCONV_NOTE,
    OCTRESNET_NOTE,
    SLIMCONV_K1_NOTE,
    TOP1,
    Row,
    Table,
)

R50 = dict(type='ResNet', depth=50)
R101 = dict(type='ResNet', depth=101)
SCCONV_R50 = dict(type='SCConvResNet', depth=50)
SCCONV_R101 = dict(type='SCConvResNet', depth=101)

# The paper does not say which input size its detection FLOPs are for. No
# single size gives all rows; 880x880 is within 1.5% of each.
DETECTION_SHAPE = (880, 880)
COCO_STYLE = {
    'AP@.5': 'coco/bbox_mAP_50',
    'AP@.75': 'coco/bbox_mAP_75',
    'mAP@[.5:.95]': 'coco/bbox_mAP',
}


def detection_row(name, slug, backbone, params, flops, scores, note=''):
    return Row(name, backbone, params, flops, scores, slug, note)


SPCONV_R50 = ('SPConv-R50', 'spconv-a0.75-r50',
              dict(
                  type='SPConvResNet', depth=50,
                  conv2_cfg=dict(alpha=0.75)), 19.76, 49.23)
SLIMCONV_R50 = ('SlimConv-R50', 'slimconv-k1-r50',
                dict(
                    type='SlimConvResNet', depth=50,
                    conv2_cfg=dict(k='1')), 18.81, 47.12)


def imagenet_row(name, slug, backbone, params, flops, top1, note=''):
    return Row(name, backbone, params, flops, (top1, ), slug, note)


TABLES = {
    'imagenet':
    Table(
        'Table 3: classification, ImageNet', (224, 224), TOP1,
        (
            imagenet_row('ResNet50', 'r50', R50, 25.56, 4.09, 76.15),
            imagenet_row(
                'Versatile-R50', 'versatile-r50',
                dict(type='VersatileConvResNet', depth=50), 18.7, 1.80, 75.50,
                'spatial versatile filters as 3x3; the paper\'s counts are of '
                'none of the two networks that were published (19.8M, 3.2G; '
                '10.9M, 3.0G)'),
            imagenet_row('GhostNet-R50 s=2', 'ghost-r50',
                         dict(type='GhostResNet', depth=50), 13.95, 2.15,
                         75.18),
            imagenet_row('SlimConv-R50 k=8/3', 'slimconv-k8-3-r50',
                         dict(
                             type='SlimConvResNet',
                             depth=50,
                             conv2_cfg=dict(k='8/3')), 12.10, 1.88, 75.32,
                         'k=8/3 is reconstructed from its counts'),
            imagenet_row('SPConv-R50 alpha=1/2', 'spconv-r50',
                         dict(type='SPConvResNet', depth=50), 18.34, 2.97,
                         76.26),
            imagenet_row('OctConv-R50 alpha=1/2', 'octresnet-r50',
                         dict(type='OctResNet', depth=50), 25.56, 2.40,
                         76.34, f'{OCTRESNET_NOTE}; 2.5% fewer FLOPs than in '
                         'the paper'),
            Row('OctConv-R50 alpha=1/2, 3x3 alone',
                dict(type='OctConvResNet', depth=50), slug='octconv-r50',
                note=f'not in the paper: {OCTCONV_NOTE}'),
            imagenet_row('SlimConv-R50 k=4/3', 'slimconv-r50',
                         dict(type='SlimConvResNet', depth=50), 16.76, 2.65,
                         76.12),
            imagenet_row(
                'PfLayer-R50_max', 'pflayer-r50',
                dict(type='PfLayerResNet', depth=50), 18.00, 2.90, 76.15,
                'max pooling in blocks without a stride; the paper\'s counts '
                'are of none of the two networks that were published (this '
                'one and 14.2M, 2.2G)'),
            imagenet_row('SlimConv-R50 k=1', 'slimconv-k1-r50',
                         SLIMCONV_R50[2], 18.81, 3.00, 76.32,
                         SLIMCONV_K1_NOTE),
            imagenet_row('TiedConv-R50 b=2', 'tiedconv-r50',
                         dict(type='TiedConvResNet', depth=50), 17.07, 3.19,
                         76.04),
            imagenet_row('SCConv-R50 alpha=1/2', 'scconv-r50', SCCONV_R50,
                         16.78, 2.70, 76.41),
            imagenet_row('SCConv-R50 alpha=3/4', 'scconv-a0.75-r50',
                         dict(SCCONV_R50, conv2_cfg=dict(alpha=0.75)), 17.69,
                         2.87, 76.79),
            imagenet_row('ResNet101', 'r101', R101, 44.55, 7.83, 77.25),
            imagenet_row('SCConv-R101', 'scconv-r101', SCCONV_R101, 28.00,
                         4.90, 77.93),
        ),
        config='configs/imagenet/{slug}_100e_imagenet.py'),
    'voc':
    Table(
        'Table 4: detection, PASCAL VOC 07+12',
        DETECTION_SHAPE,
        # the VOC 07 mAP is not in the paper
        dict(COCO_STYLE, **{'VOC mAP': 'pascal_voc/mAP'}), (
            detection_row('ResNet50', 'r50', R50, 25.56, 63.09,
                          (77.89, 55.31, 52.26)),
            detection_row(*SPCONV_R50, (78.05, 55.47, 52.48)),
            detection_row(*SLIMCONV_R50, (77.96, 55.38, 52.42),
                          SLIMCONV_K1_NOTE),
            detection_row('SCConv-R50', 'scconv-r50', SCCONV_R50, 16.78, 41.36,
                          (78.68, 56.26, 53.16)),
            detection_row('ResNet101', 'r101', R101, 44.55, 121.3,
                          (79.23, 56.31, 53.32)),
            detection_row('SCConv-R101', 'scconv-r101', SCCONV_R101, 27.90,
                          75.26, (80.36, 57.05, 54.12)),
        ),
        config='configs/scconv/faster-rcnn_{slug}_fpn_1x_voc0712.py'),
    'coco':
    Table(
        'Table 5: detection, COCO val2017',
        DETECTION_SHAPE,
        COCO_STYLE, (
            detection_row('ResNet50', 'r50', R50, 25.56, 63.09,
                          (54.2, 37.4, 35.2)),
            detection_row(*SPCONV_R50, (54.5, 37.6, 35.3)),
            detection_row(*SLIMCONV_R50, (54.0, 37.1, 35.0), SLIMCONV_K1_NOTE),
            detection_row('SCConv-R50', 'scconv-r50', SCCONV_R50, 16.78, 41.36,
                          (55.1, 38.2, 35.6)),
            detection_row('ResNet101', 'r101', R101, 44.55, 121.3, (),
                          'not in Table 5; counts from Table 4'),
            detection_row('SCConv-R101', 'scconv-r101', SCCONV_R101, 27.90,
                          75.26, (), 'not in Table 5; counts from Table 4'),
        ),
        config='configs/scconv/faster-rcnn_{slug}_fpn_1x_coco.py'),
}

# Table 4's systems for a CPU: a quarter of the width, generated data.
TABLES['digits'] = Table(
    'Digits: detection, generated data',
    (128, 128),
    COCO_STYLE,
    tuple(
        Row(row.name, dict(row.backbone, base_channels=16), slug=row.slug,
            note=row.note) for row in TABLES['voc'].rows),
    config='configs/digits/faster-rcnn_{slug}_fpn_6e_digits.py')

TABLES.update(CIFAR_TABLES)
# the tables that a command shows by default
PAPER_TABLES = ('units', 'cifar10', 'imagenet', 'voc', 'coco')
