"""Top-k accuracy."""
from collections.abc import Sequence

import numpy as np
import torch
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric

from ..layers.common import check, is_int


@METRICS.register_module()
class TopKAccuracy(BaseMetric):
    """Share of the images whose class is among the k best scores.

    Classes with an equal score, or NaN, count as better than the image's:
    a network that gives the same score to all is never right.

    Args:
        topk (int | Sequence[int]): Each k >= 1. Defaults to (1, 5).
        collect_device (str): 'cpu' or 'gpu', see ``BaseMetric``.
        prefix (str): Defaults to 'accuracy': metrics are ``accuracy/top1``
            and so on, from 0 to 1.

    Raises:
        ValueError: For a k < 1, or a k that is not smaller than the number of
            classes and hence always right.
    """

    default_prefix = 'accuracy'

    def __init__(self,
                 topk: int | Sequence[int] = (1, 5),
                 collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        super().__init__(collect_device, prefix)
        self.topk = (topk, ) if isinstance(topk, int) else tuple(topk)
        check(self.topk and all(is_int(k, 1) for k in self.topk), 'topk', topk,
              'an int >= 1, or several of them')

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Keep, for each image, the number of other classes whose score is not
        lower."""
        scores = torch.stack([s['pred_scores'] for s in data_samples])
        labels = torch.stack([s['gt_label'] for s in data_samples])
        check(
            max(self.topk) < scores.shape[1], 'topk', self.topk,
            f'less than the {scores.shape[1]} classes')
        own = scores.gather(1, labels[:, None])
        self.results += ((~(scores < own)).sum(1) - 1).tolist()

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        better = np.array(results)
        return {f'top{k}': float((better < k).mean()) for k in self.topk}
