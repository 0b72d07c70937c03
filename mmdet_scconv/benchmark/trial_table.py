"""A table of the detectors that work with a backbone, also as Markdown."""
import os

import mmcv
import mmdet
import mmengine
import torch

from ..tables import markdown_table
from ..version import __version__
from .stock_configs import ANY
from .trial_inputs import NUM_IMAGES
from .verdict import Trial

COLUMNS = ('config', 'backbone', 'Params (M)', 'size', 'loss', 'result')


def table_row(trial: Trial) -> list[str]:
    """A line of the table, see ``COLUMNS``; of the swapped backbone."""
    new = trial.swapped
    return [
        trial.config, new.backbone or '-',
        '-' if new.params is None else f'{new.params / 1e6:.2f}',
        str(trial.size), '-' if new.loss is None else f'{new.loss:.3g}',
        trial.verdict
    ]


def write_markdown(path: str, backbone: str, trials: list[Trial],
                   without: list[str]) -> None:
    """The table with its circumstances.

    Args:
        path (str): The file.
        backbone (str): What a ResNet was swapped to.
        trials (list[Trial]): Its lines.
        without (list[str]): Folders of MMDetection's configs without a
            backbone that can be swapped.
    """
    work = sum(trial.works for trial in trials)
    by_swap = sum(trial.fails_by_swap for trial in trials)
    versions = ', '.join(
        f'{name} {version}' for name, version in (
            ('mmdet-scconv', __version__), ('torch', torch.__version__),
            ('mmengine', mmengine.__version__), ('mmcv', mmcv.__version__),
            ('mmdet', mmdet.__version__)))
    built_with = ('the 3x3 of its backbone swapped for SCConv'
                  if backbone == ANY else 'its ResNet or ResNeXt swapped')
    text = f'''\
# MMDetection's detectors with {backbone}

Of {len(trials)} configs {work} work, {by_swap} fail by the swap, and
{len(trials) - work - by_swap} fail as they come, too.

"Works": the detector is built with {built_with},
without weights, nothing frozen; a training step on {NUM_IMAGES} random images
has a finite loss and gives a finite gradient to every parameter of the
backbone that the stock detector uses; a test step has finite results. Nothing
is said about accuracy. Stages with deformable convolutions keep those. Where a
config fails, the stock one was tried in the same way; where that fails, too,
both on larger images. Params: of the backbone (a semi-supervised model has
two); size: height and width of the images.

Made on the CPU by `tools/misc/try_backbone.py`, with {versions}.

'''
    text += markdown_table(COLUMNS, [
        [cell.replace('|', '\\|') for cell in table_row(trial)]
        for trial in trials
    ])
    if backbone == ANY:
        text += (
            '\nSwapped are the 3x3 without a stride. "none": apart from its '
            'first convolution the backbone has none of them that is a dense '
            'nn.Conv2d. "dense": parameters of the stock backbone.\n')
    if without:
        text += (
            '\nFrom each folder of MMDetection\'s configs: the one with the '
            'shortest name, r50 first, whose backbone is a ResNet or ResNeXt; '
            'others as named.\n\nFolders without a config that has one and '
            'loads here: '
            f'{", ".join(without)}. Their backbones are swapped by Swapped: '
            '[its table](any_network.md).\n')
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text)
