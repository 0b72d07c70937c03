"""One self-contained HTML page about a work dir of tools/train.py.

Everything is in the page: images as data URIs, no script, no link to outside.
What cannot be said of an incomplete work dir is named in its place. Text goes
through jinja2 (a requirement of torch) with escaping.
"""
import datetime
import os.path as osp
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import jinja2
import numpy as np
from mmengine.config import Config

from ..benchmark.speed import measure_speed
from ..paper.complexity import Complexity, count_parts, is_classifier
from ..paper.rows import DETECTION_SHAPE
from ..paper.work_dirs import (
    Result,
    last_checkpoint,
    read_result,
    test_metrics,
)
from ..version import __version__
from .figures import data_uri
from .models import load_model, read_config
from .pictures import picture_figure
from .pr_curves import pr_figure
from .predictions import (
    Evaluation,
    build_dataset,
    evaluate,
    image_scores,
    predict,
    read_predictions,
    write_predictions,
)
from .training_curves import curves_figure, read_curves

COCO_STATS = ('mAP@[.5:.95]', 'AP@.5', 'AP@.75', 'mAP small (< 32x32 px)',
              'mAP medium', 'mAP large (> 96x96 px)')
ENVIRONMENT = re.compile(r'^System environment:\n(.*?)^-+$', re.M | re.S)


class MissingError(Exception):
    """What a section lacks, and how to get it."""


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


@dataclass(frozen=True)
class Options:
    """What a report is made with.

    Args:
        predictions (str): File of ``tools/test.py --out``. Defaults to
            predictions.pkl in the work dir, made where it is missing or older
            than the checkpoint.
        test (bool): Whether to run the checkpoint on the test data, for
            predictions and speed. Defaults to True.
        device (str): Defaults to 'cpu'.
        pictures (int): Best and worst pictures, each. Defaults to 6.
        score_thr (float): Lowest score of a box in a picture that counts.
            Defaults to 0.3.
        track (Callable): Wraps the batches of the test, to show progress.
    """

    predictions: str | None = None
    test: bool = True
    device: str = 'cpu'
    pictures: int = 6
    score_thr: float = 0.3
    track: Callable = iter


class Run:
    """What a work dir holds; each property raises what it lacks."""

    def __init__(self, work_dir: str, options: Options) -> None:
        self.work_dir = work_dir
        self.options = options

    @cached_property
    def config_file(self) -> str:
        """The config as the training dumped it."""
        folder = Path(self.work_dir)
        files = [*folder.glob('*.py')] or [*folder.glob('*/vis_data/*.py')]
        if not files:
            raise MissingError(
                f'{self.work_dir} holds no config (*.py), which tools/train.py'
                ' writes when it starts: is it a work dir?')
        return str(max(files, key=lambda path: path.stat().st_mtime))

    @cached_property
    def cfg(self) -> Config:
        return read_config(self.config_file)

    @property
    def result(self) -> Result:
        return read_result(
            osp.basename(self.config_file), self.config_file, self.work_dir)

    @cached_property
    def checkpoint(self) -> str:
        path = last_checkpoint(self.work_dir)
        if path is None or not osp.isfile(path):
            raise MissingError(
                f'{self.work_dir} holds no checkpoint' +
                (f', {osp.basename(path)} is gone' if path else
                 ' (last_checkpoint): the training has not come to its first, '
                 'go on with tools/train.py --resume'))
        return path

    @cached_property
    def dataset(self):
        try:
            return build_dataset(self.cfg)
        except FileNotFoundError as error:
            raise MissingError(
                f'The test data is not here ({error}): run this from the '
                'folder that data/ is in') from error

    @cached_property
    def model(self):
        if not self.options.test:
            raise MissingError('Asked not to run the model (--no-test).')
        return load_model(self.cfg, self.checkpoint, self.options.device)

    @cached_property
    def predictions(self) -> list[dict]:
        if self.options.predictions is not None:
            return read_predictions(self.options.predictions)
        path = osp.join(self.work_dir, 'predictions.pkl')
        checkpoint = last_checkpoint(self.work_dir) or ''
        if osp.isfile(path) and not (
                osp.isfile(checkpoint)
                and osp.getmtime(path) < osp.getmtime(checkpoint)):
            return read_predictions(path)
        predictions = predict(self.model, self.cfg, self.dataset,
                              self.options.track)
        write_predictions(path, predictions)
        return predictions

    @cached_property
    def evaluation(self) -> Evaluation:
        if is_classifier(self.cfg.model):
            raise MissingError('This is an image classifier, without boxes.')
        dataset = self.dataset  # says most quickly that it is not there
        return evaluate(dataset, self.predictions)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width that the test pipeline resizes to."""
        for step in self.cfg.test_dataloader.dataset.pipeline:
            if step['type'] == 'Resize' and 'scale' in step:
                return step['scale'][1], step['scale'][0]
        return DETECTION_SHAPE


def percent(value: float) -> str:
    return '-' if np.isnan(value) or value < 0 else f'{100 * value:.1f}'


def scores_section(run: Run, section: Section) -> None:
    section.columns = ['score', 'percent']
    try:
        stats = run.evaluation.coco.stats
        section.rows = [[name, percent(value)]
                        for name, value in zip(COCO_STATS, stats)]
        section.texts = [
            f'{len(run.evaluation.images)} test images, '
            f'{run.evaluation.boxes().sum()} boxes, COCO\'s evaluation.'
        ]
    except Exception as error:
        # what was logged is better than nothing
        metrics = test_metrics(run.work_dir) or run.result.metrics
        section.rows = [[key, percent(value)]
                        for key, value in metrics.items() if '/' in key]
        section.texts = ['As logged by the last test or validation.'
                         ] if section.rows else []
        raise MissingError(f'No predictions to evaluate. {error}') from error


def training_section(run: Run, section: Section) -> None:
    figure = curves_figure({'': read_curves(run.work_dir)})
    section.figures = [Image(data_uri(figure), 'Losses, learning rate and '
                             'validation scores, as logged')]
    result = run.result
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


def classes_section(run: Run, section: Section) -> None:
    evaluation = run.evaluation
    columns = [evaluation.average_precision(iou) for iou in (None, 0.5, 0.75)]
    section.columns = ['class', 'boxes', *COCO_STATS[:3]]
    section.rows = [[name, str(boxes), *map(percent, ap)] for name, boxes, *ap
                    in zip(evaluation.classes, evaluation.boxes(), *columns)]
    section.figures = [Image(data_uri(pr_figure(evaluation)),
                             'Precision over recall')]


def pictures_section(run: Run, section: Section) -> None:
    evaluation, options = run.evaluation, run.options
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


def speed_section(run: Run, section: Section) -> None:
    speed = measure_speed(run.model, run.dataset, device=run.options.device)
    section.columns = ['part', 'ms an image (median)']
    section.rows = [
        ['loading and resizing', f'{1000 * speed.loading:.1f}'],
        ['detector, with post-processing', f'{1000 * speed.model:.1f}'],
    ]
    section.texts = [
        f'Batch size 1, {speed.images} test images of '
        f'{speed.size[0]}x{speed.size[1]} (height x width), measured on the '
        f'{run.options.device.upper()} when this report was made; other work '
        'on the machine slows it down.'
    ]


def complexity_section(run: Run, section: Section) -> None:
    height, width = run.shape
    section.columns = ['part', 'params (M)', 'MACs (G)', "thop's rule (G)"]
    for name, count in count_parts(run.cfg.model, (height, width)):
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


def environment_section(run: Run, section: Section) -> None:
    logs = sorted(Path(run.work_dir).glob('*/*.log'), reverse=True)
    for path in logs:
        found = ENVIRONMENT.search(path.read_text(errors='replace'))
        if found:
            section.blocks = [Block(path.name, found[1], open=True)]
            return
    raise MissingError(f'No log (TIMESTAMP/*.log) in {run.work_dir} names it.')


def config_section(run: Run, section: Section) -> None:
    text = Path(run.config_file).read_text(errors='replace')
    section.blocks = [Block(osp.basename(run.config_file), text)]


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


def make_section(title: str, fill: Callable[[Run, Section], None],
                 run: Run) -> Section:
    section = Section(title)
    try:
        fill(run, section)
    except (MissingError, FileNotFoundError) as error:
        section.missing = str(error)
    # of a broken run, too, a report is wanted: of what is there
    except Exception as error:
        section.missing = f'{type(error).__name__}: {error}'
    return section


def build_report(work_dir: str, options: Options = Options()
                 ) -> tuple[str, list[Section]]:
    """Make the report of a work dir.

    Returns:
        tuple: The page, and its sections.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    if not osp.isdir(work_dir):
        raise FileNotFoundError(f'no such folder: {work_dir}')
    run = Run(work_dir, options)
    sections = [
        make_section(title, fill, run) for title, fill in SECTIONS.items()
    ]
    now = datetime.datetime.now().astimezone()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(osp.dirname(__file__)),
        autoescape=True,
        undefined=jinja2.StrictUndefined)
    page = environment.get_template('report.html').render(
        title=f'Run {osp.basename(osp.abspath(work_dir))}',
        subtitle=f'{osp.abspath(work_dir)}, {now:%Y-%m-%d %H:%M %Z}, '
        f'mmdet-scconv {__version__}',
        sections=sections)
    return page, sections
