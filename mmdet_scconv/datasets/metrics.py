"""MMDetection's COCO and VOC metrics on checked annotations."""
import numpy as np
from mmdet.evaluation import CocoMetric, VOCMetric
from mmdet.registry import METRICS
from mmengine.fileio import get_local_path

from .coco_api import CheckedCOCO
from .findings import DataError, Findings, MissingFileError, say_once

NOTHING = 'no annotated boxes: nothing is evaluated'


@METRICS.register_module()
class CheckedCocoMetric(CocoMetric):
    """CocoMetric whose ground truth is repaired as that of the data set.

    Classes are looked up by name. Without annotated boxes (a test set)
    predictions can be dumped, nothing is evaluated.

    Args:
        ann_file (str | None): See CocoMetric.
        sort_categories (bool): Accepted and without effect, as the order in
            the file does not matter.
    """

    def __init__(self, ann_file: str | None = None, **kwargs) -> None:
        """
        Raises:
            MissingFileError: If there is no such file.
            DataError: If it cannot be evaluated with.
        """
        super().__init__(ann_file=None, **kwargs)
        if ann_file is None:
            return
        findings = Findings(ann_file)
        try:
            with get_local_path(ann_file, self.backend_args) as path:
                self._coco_api = CheckedCOCO(path, findings)
        except FileNotFoundError:
            raise MissingFileError(
                f'annotation file {ann_file} of the evaluator is missing: '
                'its ann_file says where it is looked for') from None
        except (DataError, OSError) as error:
            raise DataError(f'{ann_file}: {error}') from error
        # the data set has logged the repairs of the same file
        findings.raise_refused()
        self.ann_file = ann_file

    def compute_metrics(self, results: list) -> dict[str, float]:
        """
        Raises:
            DataError: If the file lacks one of the classes.
        """
        if self._coco_api is None:
            if not self.format_only and not any(gt['anns'] for gt, _ in
                                                results):
                say_once(NOTHING)
                return {}
            return super().compute_metrics(results)
        try:
            ids = self._coco_api.get_cat_ids(self.dataset_meta['classes'])
        except DataError as error:
            raise DataError(f'{self.ann_file}: {error}') from error
        if not self.format_only and not self._coco_api.anns:
            say_once(f'{self.ann_file}: {NOTHING}')
            return {}
        # COCOeval sorts the ids of classes; sort the labels in the same way
        self.cat_ids = sorted(ids)
        rank = np.argsort(np.argsort(np.array(ids, dtype=object)))
        return super().compute_metrics([
            (gt, dict(found, labels=rank[found['labels']]))
            for gt, found in results
        ])


@METRICS.register_module()
class CheckedVOCMetric(VOCMetric):
    """VOCMetric that takes a test set without annotations."""

    def compute_metrics(self, results: list) -> dict[str, float]:
        if not any(len(gt['labels']) for gt, _ in results):
            say_once(NOTHING)
            return {}
        return super().compute_metrics(results)
