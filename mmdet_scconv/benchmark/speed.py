"""How long a detector takes for one image."""
import copy
import statistics
import time
from dataclasses import dataclass

import torch
from mmengine.dataset import pseudo_collate
from torch import nn

WARM_UP = 2


@dataclass(frozen=True)
class Speed:
    """Median seconds for one image, batch size 1.

    ``loading``: reading and resizing; ``model``: preprocessing, network and
    post-processing. ``size``: height and width of the last image as the
    network gets it.
    """

    loading: float
    model: float
    images: int
    size: tuple[int, int]


def measure_speed(model: nn.Module, dataset, number: int = 20,
                  device: str = 'cpu') -> Speed:
    """Time a detector on images of its test data set.

    Args:
        model (nn.Module): On ``device``.
        dataset: Of MMDetection; its first images are taken.
        number (int): Images to time, at most; two more warm up.
    """
    model = copy.deepcopy(model)
    model.eval()  # not chained: mmdet's ResNet returns None
    loading, forward = [], []
    number = min(number + WARM_UP, len(dataset))
    for i in range(number):
        start = time.perf_counter()
        data = pseudo_collate([dataset[i]])
        loaded = time.perf_counter()
        with torch.no_grad():
            model.test_step(data)
        if device.startswith('cuda'):
            torch.cuda.synchronize()
        loading.append(loaded - start)
        forward.append(time.perf_counter() - loaded)
    skip = min(WARM_UP, number - 1)
    return Speed(
        statistics.median(loading[skip:]), statistics.median(forward[skip:]),
        number - skip, tuple(data['inputs'][0].shape[1:]))
