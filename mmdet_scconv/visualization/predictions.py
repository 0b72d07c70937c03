"""Predictions, ground truth and COCO's evaluation, without a runner.

Predictions are what ``tools/test.py --out FILE.pkl`` dumps: a list with a
dict for each image, of which these keys are read: ``img_id`` and
``pred_instances`` (``bboxes`` (n, 4), x1, y1, x2, y2 in pixels of the
original image; ``scores`` (n, ); ``labels`` (n, )). The dump has no ground
truth: that is read from the config's test data set, which needs its
annotations, no images.
"""
import contextlib
import io
import pickle  # noqa: S403 (no more than tensors are unpickled, see below)
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.runner import Runner
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from ..atomic import write_atomically
from ..datasets.checked import through_the_door

# what tensors and arrays are made of, in the releases of numpy
TENSOR_PARTS = {
    ('_codecs', 'encode'),  # bytes, in the protocol that MMEngine writes
    ('collections', 'OrderedDict'),
    ('torch._utils', '_rebuild_tensor_v2'),
    ('torch.storage', '_load_from_bytes'),
    ('numpy', 'dtype'),
    ('numpy', 'ndarray'),
    *((module, name) for module in ('numpy.core.multiarray',
                                    'numpy._core.multiarray')
      for name in ('_reconstruct', 'scalar')),
}


class TensorUnpickler(pickle.Unpickler):  # noqa: S301
    """Unpickles plain values, tensors and arrays, and calls nothing else."""

    def find_class(self, module: str, name: str):
        if (module, name) not in TENSOR_PARTS:
            raise pickle.UnpicklingError(f'{module}.{name}')
        if name == '_load_from_bytes':
            return lambda data: torch.load(
                io.BytesIO(data), map_location='cpu', weights_only=True)
        return super().find_class(module, name)


def read_predictions(path: str) -> list[dict]:
    """Read a dump of ``tools/test.py --out``; runs no code from it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or holds anything but predictions.
    """
    with open(path, 'rb') as f:
        try:
            predictions = TensorUnpickler(f).load()
        # whatever a damaged or hostile file leads the unpickler to
        except Exception as error:
            raise ValueError(f'{path} cannot be read as predictions of '
                             f'tools/test.py --out: {error}') from error
    if not isinstance(predictions, list) or not predictions or not all(
            isinstance(p, dict) and 'img_id' in p and 'pred_instances' in p
            for p in predictions):
        raise ValueError(f'{path} holds no predictions of tools/test.py '
                         "--out: a list of dicts with 'img_id' and "
                         "'pred_instances'")
    return predictions


def write_predictions(path: str, predictions: list[dict]) -> None:
    write_atomically(path, pickle.dumps(predictions))


def build_dataset(cfg: Config):
    """The data set that a config tests on.

    Raises:
        FileNotFoundError: If its annotations are not there.
        DataError: If they are refused.
    """
    return DATASETS.build(through_the_door(cfg.test_dataloader.dataset))


def predict(model: nn.Module, cfg: Config, dataset,
            track: Callable = iter) -> list[dict]:
    """Run a model over a test data set.

    Args:
        track (Callable): Wraps the batches, to show progress.

    Returns:
        list: What ``tools/test.py --out`` dumps.
    """
    loader = Runner.build_dataloader(
        dict(cfg.test_dataloader, dataset=dataset))
    predictions = []
    with torch.no_grad():
        for data in track(loader):
            for sample in model.test_step(data):
                instances = sample.pred_instances
                predictions.append(
                    dict(
                        img_id=sample.img_id,
                        img_path=sample.img_path,
                        ori_shape=tuple(sample.ori_shape),
                        pred_instances={
                            key: instances[key].cpu()
                            for key in ('bboxes', 'scores', 'labels')
                        }))
    return predictions


@dataclass(frozen=True)
class Evaluation:
    """Predictions matched with the ground truth by COCO's rules.

    ``images`` are the data set's infos, an image each with its ``img_path``
    and ``instances``, in the order of their indices, the evaluation's image
    ids; ``predictions`` are in that order; ``coco`` is evaluated and
    accumulated.
    """

    classes: tuple[str, ...]
    images: list[dict]
    predictions: list[dict]
    coco: COCOeval

    @property
    def precision(self) -> np.ndarray:
        """(IoU thresholds, 101 recalls, classes), of boxes of all sizes and
        at most 100 an image; -1 for a class without boxes."""
        return self.coco.eval['precision'][..., 0, -1]

    @property
    def ious(self) -> np.ndarray:
        return self.coco.params.iouThrs

    @property
    def recalls(self) -> np.ndarray:
        return self.coco.params.recThrs

    def average_precision(self, iou: float | None = None) -> np.ndarray:
        """AP of each class, (classes, ), of one IoU threshold or the mean
        over all; NaN for a class without boxes."""
        precision = self.precision
        if iou is not None:
            precision = precision[[iou_index(self, iou)]]
        absent = (precision < 0).all((0, 1))
        return np.where(absent, np.nan, precision.mean((0, 1)))

    def boxes(self) -> np.ndarray:
        """Annotated boxes of each class that are not ignored: (classes, )."""
        labels = [
            instance['bbox_label'] for image in self.images
            for instance in image['instances'] if not instance['ignore_flag']
        ]
        return np.bincount(labels, minlength=len(self.classes))


def iou_index(evaluation: Evaluation, iou: float) -> int:
    """Index of an IoU threshold.

    Raises:
        ValueError: If it is none of the evaluation's.
    """
    found = np.flatnonzero(np.isclose(evaluation.ious, iou))
    if not len(found):
        raise ValueError(
            f'iou={iou} is not valid: one of '
            f'{", ".join(f"{value:.2f}" for value in evaluation.ious)}')
    return int(found[0])


def to_coco(classes: tuple[str, ...], images: list[dict]) -> COCO:
    """Ground truth for pycocotools; image ids are indices, categories are
    labels."""
    coco = COCO()
    annotations = []
    for i, image in enumerate(images):
        for instance in image['instances']:
            x1, y1, x2, y2 = instance['bbox']
            annotations.append(
                dict(
                    id=len(annotations) + 1,  # 0 stands for no match
                    image_id=i,
                    category_id=int(instance['bbox_label']),
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    iscrowd=int(instance['ignore_flag'])))
    coco.dataset = dict(
        info={},
        images=[dict(id=i) for i in range(len(images))],
        annotations=annotations,
        categories=[dict(id=i, name=n) for i, n in enumerate(classes)])
    coco.createIndex()
    return coco


def evaluate(dataset, predictions: list[dict]) -> Evaluation:
    """Evaluate predictions by COCO's rules, whatever the data set's format.

    Boxes that are ignored (crowd, or difficult in VOC) count neither as found
    nor as missed.

    Args:
        dataset: Of MMDetection, in test mode.
        predictions (list): See the module.

    Raises:
        ValueError: If a prediction is for an image that is not in the data
            set, the data set has no boxes, or an image has no prediction.
    """
    images = [dataset.get_data_info(i) for i in range(len(dataset))]
    index = {image['img_id']: i for i, image in enumerate(images)}
    by_image = {}
    for prediction in predictions:
        if prediction['img_id'] not in index:
            raise ValueError(
                f'the predictions have an image {prediction["img_id"]!r} that '
                'is not in the data set: they are of another one')
        by_image[index[prediction['img_id']]] = prediction
    if len(by_image) < len(images):
        raise ValueError(f'only {len(by_image)} of the {len(images)} images '
                         'of the data set have predictions')
    classes = tuple(dataset.metainfo['classes'])
    found = []
    for i, prediction in by_image.items():
        instances = prediction['pred_instances']
        for box, score, label in zip(*(instances[key].tolist() for key in (
                'bboxes', 'scores', 'labels'))):
            x1, y1, x2, y2 = box
            found.append(
                dict(
                    image_id=i,
                    category_id=label,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    score=score))
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        truth = to_coco(classes, images)
        if not truth.anns:
            raise ValueError('the data set has no annotated boxes')
        detections = truth.loadRes(found) if found else COCO()
        coco = COCOeval(truth, detections, 'bbox')
        coco.params.imgIds = list(range(len(images)))
        coco.params.catIds = list(range(len(classes)))
        coco.evaluate()
        coco.accumulate()
        coco.summarize()
    return Evaluation(classes, images,
                      [by_image[i] for i in range(len(images))], coco)


@dataclass(frozen=True)
class ImageScore:
    """How well one image was solved, at an IoU of 0.5.

    ``index`` is the image's in the evaluation; ``hits`` found boxes,
    ``missed`` annotated ones that were not found, ``false`` detections of
    nothing, all above a score.
    """

    index: int
    hits: int
    missed: int
    false: int

    @property
    def f1(self) -> float:
        wrong = self.missed + self.false
        return 2 * self.hits / (2 * self.hits + wrong) if wrong else 1.


def image_scores(evaluation: Evaluation, score_thr: float) -> list[ImageScore]:
    """Count each image's hits and errors among detections from ``score_thr``
    on, from the best to the worst by F1; among equals the best has most hits
    and the worst most errors.
    """
    n = len(evaluation.images)
    counts = np.zeros((n, 3), dtype=int)
    # (categories, areas, images) flattened; the first area is "all"
    matches = evaluation.coco.evalImgs
    areas = len(evaluation.coco.params.areaRng)
    for category in range(len(evaluation.classes)):
        start = category * areas * n
        for i, match in enumerate(matches[start:start + n]):
            if match is None:
                continue
            kept = np.array(match['dtScores']) >= score_thr
            kept &= ~match['dtIgnore'][0].astype(bool)
            matched = match['dtMatches'][0] > 0
            hits = int((matched & kept).sum())
            boxes = int((1 - np.array(match['gtIgnore'])).sum())
            counts[i] += hits, boxes - hits, int((~matched & kept).sum())
    scores = [ImageScore(i, *row) for i, row in enumerate(counts.tolist())]
    return sorted(scores, key=lambda s: (-s.f1, -s.hits, s.missed + s.false))
