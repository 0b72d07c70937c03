"""COCO's evaluation of predictions, without a runner.

A dump of predictions has no ground truth. It is read from the config's test
data set, which needs the annotations, but no images.
"""
import contextlib
import io
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


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
                    id=len(annotations) + 1,  # 0 means no match
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
        predictions (list): See :mod:`.predictions`.

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
    """Hits and errors in one image, at an IoU of 0.5.

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
    """Count each image's hits and errors among detections that score at least
    ``score_thr``. Sorted by F1, best first; of equal ones first those with
    most hits, last those with most errors.
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
