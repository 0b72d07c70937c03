"""The sections of a report, each filled by one function."""
import os.path as osp
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..benchmark.speed import measure_speed
from ..paper.complexity import Complexity, count_parts
from ..paper.work_dirs import test_metrics
from .evaluation import image_scores
from .figures import data_uri
from .pictures import picture_figure
from .pr_curves import pr_figure
from .report_data import MissingError, ReportData
from .training_curves import curves_figure, read_curves

COCO_STATS = ('mAP@[.5:.95]', 'AP@.5', 'AP@.75', 'mAP small (< 32x32 px)',
              'mAP medium', 'mAP large (> 96x96 px)')
ENVIRONMENT = re.compile(r'^System environment:\n(.*?)^-+$', re.M | re.S)


@dataclass(frozen=True)
class Image:
    uri: str
    text: str


@dataclass(frozen=True)
class Gallery:
    title: str
    images: list[Image]


@dataclass(frozen=True)
class Block:
    """Preformatted text that can be folded."""

    title: str
    text: str
    open: bool = False


@dataclass
class Section:
    """A part of the report; ``missing`` says what it lacks, if anything."""

    title: str
    missing: str = ''
    texts: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    figures: list[Image] = field(default_factory=list)
    galleries: list[Gallery] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)


def percent(value: float) -> str:
    return '-' if np.isnan(value) or value < 0 else f'{100 * value:.1f}'


def scores_section(data: ReportData, section: Section) -> None:
    section.columns = ['score', 'percent']
    try:
        stats = data.evaluation.coco.stats
        section.rows = [[name, percent(value)]
                        for name, value in zip(COCO_STATS, stats)]
        section.texts = [
            f'{len(data.evaluation.images)} test images, '
            f'{data.evaluation.boxes().sum()} boxes, COCO\'s evaluation.'
        ]
    except Exception as error:
        # use what was logged
        metrics = test_metrics(data.work_dir) or data.result.metrics
        section.rows = [[key, percent(value)]
                        for key, value in metrics.items() if '/' in key]
        section.texts = ['As logged by the last test or validation.'
                         ] if section.rows else []
        raise MissingError(f'No predictions to evaluate. {error}') from error


def training_section(data: ReportData, section: Section) -> None:
    figure = curves_figure({'': read_curves(data.work_dir)})
    section.figures = [Image(data_uri(figure), 'Losses, learning rate and '
                             'validation scores, as logged')]
    result = data.result
    state = 'Finished' if result.state == 'finished' else \
        f'Not finished: {result.state}'
    section.texts = [f'{state}.']
    if result.seed is not None:
        section.texts = [f'{state}, seed {result.seed}.']
    if result.seconds is not None:
        section.texts.append(
            f'{result.seconds:.3f} s an iteration (median)' +
            (f', {result.memory} MB of GPU memory' if result.memory else '') +
            f', on {result.environment or "an unknown device"}.')


def classes_section(data: ReportData, section: Section) -> None:
    evaluation = data.evaluation
    columns = [evaluation.average_precision(iou) for iou in (None, 0.5, 0.75)]
    section.columns = ['class', 'boxes', *COCO_STATS[:3]]
    section.rows = [[name, str(boxes), *map(percent, ap)] for name, boxes, *ap
                    in zip(evaluation.classes, evaluation.boxes(), *columns)]
    section.figures = [Image(data_uri(pr_figure(evaluation)),
                             'Precision over recall')]


def pictures_section(data: ReportData, section: Section) -> None:
    evaluation, options = data.evaluation, data.options
    scores = image_scores(evaluation, options.score_thr)
    number = max(1, min(options.pictures, len(scores) // 2))

    def image(score):
        figure = picture_figure(evaluation, score.index, options.score_thr)
        name = osp.basename(evaluation.images[score.index]['img_path'])
        return Image(
            data_uri(figure, 'jpg'),
            f'{name}: {score.hits} found, {score.missed} missed, '
            f'{score.false} false')

    section.texts = [
        'Ordered by F1 at an IoU of 0.5 among boxes that score at least '
        f'{100 * options.score_thr:.0f}%. Dashed, green: annotated; red: '
        'found, with the score in percent.'
    ]
    section.galleries = [
        Gallery('Best', [image(s) for s in scores[:number]]),
        Gallery('Worst', [image(s) for s in scores[:-number - 1:-1]])
    ]


def speed_section(data: ReportData, section: Section) -> None:
    speed = measure_speed(data.model, data.dataset, device=data.options.device)
    section.columns = ['part', 'ms an image (median)']
    section.rows = [
        ['loading and resizing', f'{1000 * speed.loading:.1f}'],
        ['detector, with post-processing', f'{1000 * speed.model:.1f}'],
    ]
    section.texts = [
        f'Batch size 1, {speed.images} test images of '
        f'{speed.size[0]}x{speed.size[1]} (height x width), measured on the '
        f'{data.options.device.upper()} when this report was made; other work '
        'on the machine slows it down.'
    ]


def complexity_section(data: ReportData, section: Section) -> None:
    height, width = data.shape
    section.columns = ['part', 'params (M)', 'MACs (G)', "thop's rule (G)"]
    for name, count in count_parts(data.cfg.model, (height, width)):
        cells = [str(count)]
        if isinstance(count, Complexity):
            cells = [f'{count.params / 1e6:.3f}', f'{count.macs / 1e9:.3f}',
                     f'{count.thop / 1e9:.3f}']
        section.rows.append([name, *cells])
    section.texts = [
        f'For one image of {height}x{width}; "+ fc": with the 1000-class '
        'classifier that papers count. tools/analysis_tools/get_flops.py '
        'tells what each counter sees.'
    ]


def environment_section(data: ReportData, section: Section) -> None:
    logs = sorted(Path(data.work_dir).glob('*/*.log'), reverse=True)
    for path in logs:
        found = ENVIRONMENT.search(path.read_text(errors='replace'))
        if found:
            section.blocks = [Block(path.name, found[1], open=True)]
            return
    raise MissingError(f'No log (TIMESTAMP/*.log) in {data.work_dir} has it.')


def config_section(data: ReportData, section: Section) -> None:
    text = Path(data.config_file).read_text(errors='replace')
    section.blocks = [Block(osp.basename(data.config_file), text)]


SECTIONS = {
    'Scores': scores_section,
    'Training': training_section,
    'AP per class': classes_section,
    'Best and worst pictures': pictures_section,
    'Speed': speed_section,
    'Complexity': complexity_section,
    'Environment': environment_section,
    'Config': config_section,
}


def make_section(title: str, fill: Callable[[ReportData, Section], None],
                 data: ReportData) -> Section:
    section = Section(title)
    try:
        fill(data, section)
    except (MissingError, FileNotFoundError) as error:
        section.missing = str(error)
    # a failed run gets a report, too, from what there is
    except Exception as error:
        section.missing = f'{type(error).__name__}: {error}'
    return section
