"""The rows of Tables 1 and 2: classification of CIFAR."""
from .table import (
    OCTCONV_NOTE,
    OCTRESNET_NOTE,
    SLIMCONV_K1_NOTE,
    TOP1,
    Row,
    Table,
)

R56 = dict(type='CIFARResNet', depth=56)
R50 = dict(type='CIFARResNet', depth=50)
RX29 = dict(type='CIFARResNeXt', depth=29)
WRN28 = dict(type='CIFARWideResNet', depth=28)
D121 = dict(type='CIFARDenseNet', depth=121)

SCCONV = dict(type='SCConv')
# the text's formula for the width of the low branch
SCCONV_TEXT = dict(SCCONV, low_squeeze_base='low_channels')
SPCONV = dict(type='SPConv')
OCTCONV = dict(type='OctConv')
SLIMCONV = dict(type='SlimConv')
SLIMCONV_K1 = dict(type='SlimConv', k='1')
TIEDCONV = dict(type='TiedConv')
GHOST = dict(type='GhostModule')

TEXT_NOTE = ("low_squeeze_base='low_channels' and a fc of 100 classes give "
             "the paper's counts")
FC_NOTE = "the paper's counts are with a fc of 100 classes"
NO_GHOST_NOTE = "no reading of GhostNet was found that has the paper's counts"
RX29_NOTE = ("5x64d, whose SPConv, SlimConv and TiedConv have the paper's "
             'counts, as the dense network has not')


def cifar_row(name: str, slug: str, network: dict, conv2_cfg: dict | None,
              params: float, flops: float, scores: tuple[float, ...],
              note: str = '', num_classes: int = 10) -> Row:
    """``flops`` in M; without ``conv2_cfg`` the network as it is."""
    if conv2_cfg:
        network = dict(network, conv2_cfg=conv2_cfg)
    return Row(name, network, params, flops and flops / 1e3, scores, slug,
               note, num_classes)


def units_row(units: str, slug: str, params: float, flops: float,
              top1: float) -> Row:
    return cifar_row(f'ResNet50 + {units.replace("+", " + ")}', slug, R50,
                     dict(type='SCConv', units=units), params, flops, (top1, ),
                     "the paper's counts are with a fc of 10 classes")


UNITS = Table(
    'Table 1: combinations of SRU and CRU, CIFAR-100', (32, 32), TOP1, (
        cifar_row('ResNet50', 'r50', R50, None, 23.71, 1300, (78.60, ),
                  num_classes=100),
        units_row('S', 'scconv-s-r50', 23.53, 1300, 79.59),
        units_row('C', 'scconv-c-r50', 14.74, 843.81, 79.21),
        units_row('C&S', 'scconv-c-and-s-r50', 14.74, 843.81, 79.26),
        units_row('C+S', 'scconv-c-s-r50', 14.74, 843.81, 79.54),
        units_row('S+C', 'scconv-s-c-r50', 14.74, 843.81, 79.89),
    ),
    config='configs/cifar/{slug}_200e_cifar100.py')

# name, slug, network, conv2_cfg, Params in M, FLOPs in M, CIFAR-10, CIFAR-100;
# note and classes of the fc where there are any
TABLE_2 = (
    ('ResNet56', 'r56', R56, None, 0.86, 126.84, 93.27, 71.50),
    ('OctConv-R56 alpha=1/2', 'octconv-r56', R56, OCTCONV, 0.62, 126.84, 93.11,
     70.93, f"{OCTCONV_NOTE}; the paper's two counts seem exchanged: octave "
     'convolutions have the parameters of dense ones, and the FLOPs fall as '
     'the parameters do there'),
    ('SPConv-R56 alpha=1/2', 'spconv-r56', R56, SPCONV, 0.58, 87.95, 93.49,
     71.51),
    ('GhostNet-R56 s=2', 'ghost-r56', R56, GHOST, 0.45, 68.35, 92.35, 70.42,
     'a Ghost module with a 1x1 primary convolution as conv2'),
    ('SlimConv-R56 k=1', 'slimconv-k1-r56', R56, SLIMCONV_K1, 0.60, 88.82,
     93.51, 71.71, SLIMCONV_K1_NOTE),
    ('TiedConv-R56 b=2', 'tiedconv-r56', R56, TIEDCONV, 0.54, 94.99, 92.87,
     71.10, '2% fewer parameters than in the paper'),
    ('SCConv-R56', 'scconv-r56', R56, SCCONV, 0.52, 79.55, 94.12, 72.56),
    ('ResNet50', 'r50', R50, None, 23.52, 1300, 95.09, 78.60),
    ('OctConv-R50 alpha=1/2', 'octresnet-r50',
     dict(type='CIFAROctResNet', depth=50), None, 23.52, 727.26, 95.25, 78.91,
     OCTRESNET_NOTE),
    ('OctConv-R50 alpha=1/2, 3x3 alone', 'octconv-r50', R50, OCTCONV, None,
     None, None, None, f'not in the paper: {OCTCONV_NOTE}'),
    ('GhostNet-R50 s=2', 'ghost-r50', dict(type='CIFARGhostResNet', depth=50),
     None, 14.56, 632.45, 94.30, 77.54,
     f'the GhostNet of Table 3; {NO_GHOST_NOTE}'),
    ('SlimConv-R50 k=4/3', 'slimconv-r50', R50, SLIMCONV, 14.83, 853.50, 95.05,
     78.85, "2% fewer FLOPs than in the paper; k=1 has the paper's"),
    ('SPConv-R50 alpha=1/2', 'spconv-r50', R50, SPCONV, 16.14, 972.31, 95.32,
     79.23, "1% more parameters and 5% fewer FLOPs than in the paper; "
     "ResNet-56's and ResNeXt-29's are the paper's"),
    ('SlimConv-R50 k=1', 'slimconv-k1-r50', R50, SLIMCONV_K1, 16.78, 942.38,
     95.35, 79.26, SLIMCONV_K1_NOTE),
    ('TiedConv-R50 b=2', 'tiedconv-r50', R50, TIEDCONV, 15.03, 998.78, 95.44,
     79.52),
    ('SCConv-R50', 'scconv-r50', R50, SCCONV_TEXT, 14.69, 831.18, 95.92, 79.89,
     TEXT_NOTE, 100),
    ('ResNeXt-29', 'rx29', RX29, None, 28.27, 4550, 95.68, 81.54, RX29_NOTE),
    ('GhostNet-RX29 s=2', 'ghost-rx29', RX29, GHOST, 22.22, 3600, 95.14, 80.23,
     NO_GHOST_NOTE),
    ('SPConv-RX29 alpha=1/2', 'spconv-rx29', RX29, SPCONV, 31.17, 4790, 96.03,
     81.76),
    ('SlimConv-RX29 k=4/3', 'slimconv-rx29', RX29, SLIMCONV, 28.24, 4380,
     95.85, 81.93),
    ('TiedConv-RX29 b=2', 'tiedconv-rx29', RX29, TIEDCONV, 24.67, 5960, 95.66,
     81.32),
    ('SCConv-RX29', 'scconv-rx29', RX29, SCCONV_TEXT, 22.31, 3570, 96.20,
     82.56, "low_squeeze_base='low_channels' is the closer of two readings, "
     '2% fewer parameters and FLOPs than in the paper'),
    ('WideResNet-28', 'wrn28', WRN28, None, 36.55, 5960, 95.21, 79.40, FC_NOTE,
     100),
    ('GhostNet-WRN28 s=2', 'ghost-wrn28', WRN28, GHOST, 22.12, 3980, 95.25,
     79.27, NO_GHOST_NOTE, 100),
    ('SPConv-WRN28 alpha=1/2', 'spconv-wrn28', WRN28, SPCONV, 24.20, 4160,
     95.37, 80.25, FC_NOTE, 100),
    ('SlimConv-WRN28 k=1', 'slimconv-k1-wrn28', WRN28, SLIMCONV_K1, 25.00,
     4250, 95.43, 79.52, f'{SLIMCONV_K1_NOTE}; {FC_NOTE}', 100),
    ('TiedConv-WRN28 b=2', 'tiedconv-wrn28', WRN28, TIEDCONV, 22.03, 4540,
     95.48, 78.61, FC_NOTE, 100),
    ('SCConv-WRN28', 'scconv-wrn28', WRN28, SCCONV_TEXT, 21.12, 3750, 95.64,
     80.83, TEXT_NOTE, 100),
    ('DenseNet-121', 'd121', D121, None, 7.05, 898.23, 95.09, 79.43, FC_NOTE,
     100),
    ('GhostNet-D121 s=2', 'ghost-d121', D121, GHOST, 5.04, 517.36, 93.96,
     78.51, f'a Ghost module with a 1x1 primary convolution as 3x3; {FC_NOTE}',
     100),
    ('SPConv-D121 alpha=1/2', 'spconv-d121', D121, SPCONV, 5.69, 641.54, 95.15,
     79.64, FC_NOTE, 100),
    ('SlimConv-D121 k=1', 'slimconv-k1-d121', D121, SLIMCONV_K1, 5.97, 670.21,
     94.63, 78.90, f'{SLIMCONV_K1_NOTE}; {FC_NOTE}', 100),
    ('TiedConv-D121 b=2', 'tiedconv-d121', D121, TIEDCONV, 5.45, 695.68, 95.23,
     79.73, FC_NOTE, 100),
    ('SCConv-D121', 'scconv-d121', D121, SCCONV, 5.45, 594.34, 95.37, 80.24,
     FC_NOTE, 100),
)


def table_2(data: str, column: int) -> Table:
    """Table 2 with the accuracies of one of its two data sets."""
    return Table(
        f'Table 2: classification, CIFAR-{data}', (32, 32), TOP1,
        tuple(
            cifar_row(*row[:6], () if row[column] is None else
                      (row[column], ), *row[8:]) for row in TABLE_2),
        config='configs/cifar/{slug}_200e_' + f'cifar{data}.py')


# Table 1's units and Figure 4's split ratios, for a CPU
R20 = dict(
    type='CIFARResNet', depth=20, stages_with_swap=(False, True, True))
FOLDERS_NOTE = "the paper's accuracy is of ResNet50 on CIFAR-100"


def folders_row(name: str, slug: str, options: dict | None,
                top1: float | None = None) -> Row:
    network = dict(R20)
    if options is not None:
        network['conv2_cfg'] = dict(SCCONV, **options)
    return Row(name, network, scores=() if top1 is None else (top1, ),
               slug=slug, note='' if top1 is None else FOLDERS_NOTE,
               num_classes=10)


FOLDERS = Table(
    'Figure 4, Table 1: ResNet-20 on 2,000 images of CIFAR-10',
    (32, 32), TOP1, (
        folders_row('ResNet20', 'r20', None, 78.60),
        *(folders_row(f'ResNet20 + {units.replace("+", " + ")}',
                      f'scconv-{slug}-r20', dict(units=units), top1)
          for units, slug, top1 in (('S', 's', 79.59), ('C', 'c', 79.21),
                                    ('C&S', 'c-and-s', 79.26),
                                    ('C+S', 'c-s', 79.54))),
        folders_row('ResNet20 + S + C (alpha=1/2)', 'scconv-r20', {}, 79.89),
        *(folders_row(f'ResNet20 + S + C, alpha={eighths}/8',
                      f'scconv-a{eighths / 8}-r20', dict(alpha=eighths / 8))
          for eighths in (1, 2, 3, 5, 6, 7)),
    ),
    config='configs/cifar_folders/{slug}_10e_cifar10-folders.py')

CIFAR_TABLES = {
    'units': UNITS,
    'cifar10': table_2('10', 6),
    'cifar100': table_2('100', 7),
    'cifar-folders': FOLDERS,
}
