"""Fits a network's swapped convolutions to the dense ones of its checkpoint,
when a training starts.

:class:`.WarmStartHook` calls it with images of the training set. Where no hook
does, ``SwappedModule.train()`` does, with generated ones.
"""
import copy
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from mmdet.registry import TASK_UTILS
from mmengine.dist import broadcast, is_main_process
from mmengine.logging import print_log
from mmengine.model import revert_sync_batchnorm
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from . import images
from .cache import cache_key, once
from .layers import LayerReport
from .network import eval_mode, fit_network, swapped_names
from .report import summary

NUM_IMAGES = 64
SIZE = 224


def generated_images(dense: nn.Module, count: int = NUM_IMAGES,
                     size: int = SIZE) -> Tensor:
    """Generated images, as a network with these weights gets them.

    Checkpoints differ in the normalisation of their images. Therefore the
    images are scaled so that the input of the first BatchNorm has the variance
    in its statistics.

    Args:
        dense (nn.Module): Its weights tell the scale.
        count (int): Defaults to 64.
        size (int): Of the sides, in pixels. Defaults to 224.

    Returns:
        Tensor: (count, 3, size, size).
    """
    rng = np.random.default_rng(0)
    made = torch.cat(images.batches(
        images.generated(count, size, rng), size, rng))
    return made * scale_of_images(dense, made[:8])


class FirstNormReached(Exception):
    """Ends a forward that need not go on."""


def scale_of_images(dense: nn.Module, sample: Tensor) -> float:
    """The factor of the images with which the input of the network's first
    BatchNorm has the variance in its statistics; 1 without a BatchNorm."""
    found = []

    def at_norm(norm, inputs):
        if norm.running_var is not None:
            seen = inputs[0].var((0, 2, 3))
            found.append((norm.running_var / seen.clamp(min=1e-12)).median())
            raise FirstNormReached

    handles = [module.register_forward_pre_hook(at_norm)
               for module in dense.modules() if isinstance(module, _BatchNorm)]
    try:
        with eval_mode(dense):
            dense(sample)
    except FirstNormReached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return float(found[0]) ** 0.5 if found else 1.


@contextmanager
def seeded() -> Iterator[None]:
    """In this context random numbers are the same each time; afterwards the
    generators continue as without it."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        yield
    random.setstate(states[0])
    np.random.set_state(states[1])


def fit(network: nn.Module, dense: nn.Module, batch: Tensor) -> dict:
    """Fit a copy on the CPU, where results do not depend on the device.

    Returns:
        dict: ``state_dict``: what a fit gives beside the dense network's
            tensors. ``reports``: the fields of each :class:`LayerReport`.
    """
    # the dense network has its weights, they need not be copied
    kept = network.__dict__.get('_dense_weights', {})
    # SyncBatchNorm would wait for the other processes, which do not fit
    fitted = revert_sync_batchnorm(
        copy.deepcopy(network, {id(kept): {}}).cpu())
    names = swapped_names(fitted, dense)
    with Progress(TextColumn('fitting {task.description}'), BarColumn(),
                  MofNCompleteColumn(), TimeElapsedColumn(),
                  transient=True) as progress:
        task = progress.add_task(type(network).__name__, total=len(names))
        reports = fit_network(
            fitted, dense, batch,
            report=lambda report, total: progress.update(
                task, advance=1, description=report.name))
    given = dense.state_dict()
    return dict(
        state_dict={
            name: value.clone()
            for name, value in fitted.state_dict().items()
            if name not in given or not torch.equal(value, given[name])
        },
        reports=[vars(report) for report in reports])


# measured in benchmarks/warm_start
NOT_YOUR_IMAGES = (
    'no images of the training set were at hand for the fit. A training makes '
    'up for it; a detector that is hardly trained further loses 6 to 45 AP '
    "more. custom_hooks=[dict(type='SCConvRuntimeHook')] gives it the "
    "training set's images")


@TASK_UTILS.register_module()
def start_warm(network: nn.Module,
               make_images: Callable[[], Tensor] | None = None,
               source: str = 'generated images') -> list[LayerReport]:
    """Fit the swapped convolutions of a network to the dense ones.

    Done once on a machine for the same weights, options and images; then it
    takes them from the user's cache. In a distributed training the first
    process does it and sends the weights to the others.

    Args:
        network (SwappedModule): A backbone that has its dense weights,
            :meth:`SwappedModule.dense_network`; changed in place.
        make_images (Callable, optional): Returns images as the network gets
            them, (N, 3, H, W). Defaults to generated ones.
        source (str): What the images are, for the log.

    Returns:
        list[LayerReport]: One for each convolution; empty in other processes
        than the first.
    """
    reports = []
    if is_main_process():
        with seeded():
            reports = _start(network, make_images, source)
    for value in network.state_dict().values():
        broadcast(value)
    network.note_fitted()
    return reports


def _start(network: nn.Module, make_images: Callable[[], Tensor] | None,
           source: str) -> list[LayerReport]:
    begin = time.perf_counter()
    print_log(
        f'{type(network).__name__}: fitting {len(network.swapped_convs)} '
        'convolutions to the dense ones, or taking them from the cache',
        logger='current')
    dense = network.dense_network()
    batch = (make_images() if make_images else generated_images(dense)).cpu()
    key = cache_key(dense.state_dict(), batch, dict(network=str(network)))
    content, found = once(key, lambda: fit(network, dense, batch))
    network.load_state_dict(content['state_dict'], strict=False)
    reports = [LayerReport(**fields) for fields in content['reports']]
    how = ('taken from the cache'
           if found else f'{time.perf_counter() - begin:.0f} s')
    print_log(
        f'{type(network).__name__}: {len(reports)} swapped convolutions '
        f'fitted to the dense ones, on {len(batch)} {source} ({how})',
        logger='current')
    if make_images is None:
        print_log(NOT_YOUR_IMAGES, logger='current', level=logging.WARNING)
    for level, line in summary(reports):
        print_log(line, logger='current', level=level)
    return reports
