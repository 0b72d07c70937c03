"""The rows of the paper's tables: the one list that tools and docs read.

Source of every number of the paper's: SCConv, CVPR 2023, Tables 1 to 5. Not
listed are two rows of Table 3 that are no 3x3 replacements built here,
Versatile-R50 and PfLayer-R50, and Table 2's ResNeXt-29, WideResNet-28 and
DenseNet-121.
"""
from dataclasses import dataclass, field

R50 = dict(type='ResNet', depth=50)
R101 = dict(type='ResNet', depth=101)
SCCONV_R50 = dict(type='SCConvResNet', depth=50)
SCCONV_R101 = dict(type='SCConvResNet', depth=101)


@dataclass(frozen=True)
class Row:
    """One system of a table.

    Args:
        name (str): As in the paper.
        backbone (dict): Type, depth and options of the backbone.
        params (float): The paper's, in millions, if it has any.
        flops (float): The paper's, in G (multiply-accumulates).
        scores (tuple): The paper's, one for each of the table's metrics;
            empty where the paper has none.
        slug (str): What the row is called in its config's name.
        note (str): What is known to differ from the paper's system.
        num_classes (int): Of the fc that the paper's counts are with.
    """

    name: str
    backbone: dict = field(hash=False)
    params: float | None = None
    flops: float | None = None
    scores: tuple[float, ...] = ()
    slug: str = ''
    note: str = ''
    num_classes: int = 1000


@dataclass(frozen=True)
class Table:
    """One table of the paper, or one of ours in its form.

    Args:
        title (str): Its number and what it is about.
        shape (tuple): Height and width of the images that FLOPs are for.
        metrics (dict): Names of the scores, in percent, and the evaluator's
            names; a row's ``scores`` are the first of them.
        rows (tuple): The rows.
        config (str): Path of a row's config in the repository, with
            ``{slug}``; empty where there are none.
    """

    title: str
    shape: tuple[int, int]
    metrics: dict[str, str]
    rows: tuple[Row, ...]
    config: str = ''


SLIMCONV_K1_NOTE = ('k=1 was never published: the closest reconstruction '
                    'from its counts')
OCTCONV_NOTE = 'only the 3x3 convolutions work in two resolutions'

# The paper does not say which input size its detection FLOPs are for. No
# single size gives all rows; 880x880 is within 1.5% of each.
DETECTION_SHAPE = (880, 880)
TOP1 = {'top-1': 'accuracy/top1'}
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
            imagenet_row('OctConv-R50 alpha=1/2', 'octconv-r50',
                         dict(type='OctConvResNet', depth=50), 25.56, 2.40,
                         76.34, OCTCONV_NOTE),
            imagenet_row('SlimConv-R50 k=4/3', 'slimconv-r50',
                         dict(type='SlimConvResNet', depth=50), 16.76, 2.65,
                         76.12),
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
def cifar_row(name, slug, depth, conv2_cfg, params, flops, scores, note='',
              num_classes=10):
    """``flops`` in M; without ``conv2_cfg`` the dense network."""
    backbone = dict(type='CIFARResNet', depth=depth)
    if slug.startswith('ghost'):
        backbone['type'] = 'CIFARGhostResNet'
    elif conv2_cfg:
        backbone['conv2_cfg'] = conv2_cfg
    return Row(name, backbone, params, flops / 1e3, scores, slug, note,
               num_classes)


def units_row(units, slug, params, flops, top1):
    return cifar_row(f'ResNet50 + {units.replace("+", " + ")}', slug, 50,
                     dict(type='SCConv', units=units), params, flops, (top1, ),
                     'the paper\'s counts are with a fc of 10 classes')


SCCONV = dict(type='SCConv')
SPCONV = dict(type='SPConv')
OCTCONV = dict(type='OctConv')
SLIMCONV = dict(type='SlimConv')
SLIMCONV_K1 = dict(type='SlimConv', k='1')
TIEDCONV = dict(type='TiedConv')
TABLES['units'] = Table(
    'Table 1: combinations of SRU and CRU, CIFAR-100', (32, 32), TOP1, (
        cifar_row('ResNet50', 'r50', 50, None, 23.71, 1300, (78.60, ),
                  num_classes=100),
        units_row('S', 'scconv-s-r50', 23.53, 1300, 79.59),
        units_row('C', 'scconv-c-r50', 14.74, 843.81, 79.21),
        units_row('C&S', 'scconv-c-and-s-r50', 14.74, 843.81, 79.26),
        units_row('C+S', 'scconv-c-s-r50', 14.74, 843.81, 79.54),
        units_row('S+C', 'scconv-s-c-r50', 14.74, 843.81, 79.89),
    ),
    config='configs/cifar/{slug}_200e_cifar100.py')

# name, slug, depth, conv2_cfg, Params in M, FLOPs in M, CIFAR-10, CIFAR-100
TABLE_2 = (
    ('ResNet56', 'r56', 56, None, 0.86, 126.84, 93.27, 71.50),
    ('OctConv-R56 alpha=1/2', 'octconv-r56', 56, OCTCONV, 0.62, 126.84, 93.11,
     70.93, OCTCONV_NOTE),
    ('SPConv-R56 alpha=1/2', 'spconv-r56', 56, SPCONV, 0.58, 87.95, 93.49,
     71.51),
    ('GhostNet-R56 s=2', 'ghost-r56', 56, None, 0.45, 68.35, 92.35, 70.42),
    ('SlimConv-R56 k=1', 'slimconv-k1-r56', 56, SLIMCONV_K1, 0.60, 88.82,
     93.51, 71.71, SLIMCONV_K1_NOTE),
    ('TiedConv-R56 b=2', 'tiedconv-r56', 56, TIEDCONV, 0.54, 94.99, 92.87,
     71.10),
    ('SCConv-R56', 'scconv-r56', 56, SCCONV, 0.52, 79.55, 94.12, 72.56),
    ('ResNet50', 'r50', 50, None, 23.52, 1300, 95.09, 78.60),
    ('OctConv-R50 alpha=1/2', 'octconv-r50', 50, OCTCONV, 23.52, 727.26, 95.25,
     78.91, OCTCONV_NOTE),
    ('GhostNet-R50 s=2', 'ghost-r50', 50, None, 14.56, 632.45, 94.30, 77.54,
     'the GhostNet of Table 3; Table 2 has counts of another'),
    ('SlimConv-R50 k=4/3', 'slimconv-r50', 50, SLIMCONV, 14.83, 853.50, 95.05,
     78.85),
    ('SPConv-R50 alpha=1/2', 'spconv-r50', 50, SPCONV, 16.14, 972.31, 95.32,
     79.23),
    ('SlimConv-R50 k=1', 'slimconv-k1-r50', 50, SLIMCONV_K1, 16.78, 942.38,
     95.35, 79.26, SLIMCONV_K1_NOTE),
    ('TiedConv-R50 b=2', 'tiedconv-r50', 50, TIEDCONV, 15.03, 998.78, 95.44,
     79.52),
    ('SCConv-R50', 'scconv-r50', 50,
     dict(SCCONV, low_squeeze_base='low_channels'), 14.69, 831.18, 95.92,
     79.89, "low_squeeze_base='low_channels' and a fc of 100 classes give the "
     "paper's counts", 100),
)
for _i, _name in enumerate(('cifar10', 'cifar100')):
    TABLES[_name] = Table(
        f'Table 2: classification, CIFAR-{_name[5:]}',
        (32, 32),
        TOP1,
        tuple(
            cifar_row(*row[:6], (row[6 + _i], ), *row[8:]) for row in TABLE_2),
        config='configs/cifar/{slug}_200e_' + f'{_name}.py')
# what a command shows unasked
PAPER_TABLES = ('units', 'cifar10', 'imagenet', 'voc', 'coco')
