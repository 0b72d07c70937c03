"""The data of a report: a work dir, and its checkpoint on the test data."""
import os.path as osp
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mmengine.config import Config

from ..config import read_config
from ..errors import UserError
from ..paper.complexity import is_classifier
from ..paper.rows import DETECTION_SHAPE
from ..paper.work_dirs import Result, last_checkpoint, read_result
from .evaluation import Evaluation, evaluate
from .models import load_model
from .predictions import (
    build_dataset,
    predict,
    read_predictions,
    write_predictions,
)


class MissingError(UserError):
    """A section's data is missing; the message says how to get it."""


@dataclass(frozen=True)
class Options:
    """Options of a report.

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


class ReportData:
    """The data of a report, from a work dir of tools/train.py.

    Each property is read or computed when it is first used.

    Raises:
        MissingError: By a property, if the work dir lacks what it needs.
    """

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
                 ' (last_checkpoint): the training has not reached its first '
                 'one: go on with tools/train.py --resume'))
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
        dataset = self.dataset  # first: it fails quickest
        return evaluate(dataset, self.predictions)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width that the test pipeline resizes to."""
        for step in self.cfg.test_dataloader.dataset.pipeline:
            if step['type'] == 'Resize' and 'scale' in step:
                return step['scale'][1], step['scale'][0]
        return DETECTION_SHAPE
