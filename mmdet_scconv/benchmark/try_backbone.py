"""Tries a detector with another backbone: one training and one test step.

A stock config is built with its ResNet or ResNeXt swapped, or with the
convolutions of any backbone swapped, without weights, in its full width and
depth. It does a training and a test step on two small random images.
:mod:`.verdict` compares that with the stock backbone.
"""
import multiprocessing
import os
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torch import nn

from .stock_configs import load_config, remove_weights, swap_in_model
from .trial_inputs import branches, random_images

# height and width of the images in pixels: some detectors need more, for
# their pyramid or their number of queries
SIZES = (128, 384)


def train_step(model: nn.Module,
               data: dict) -> tuple[float, tuple[str, ...]]:
    """Forward and backward.

    Returns:
        tuple: The loss; names of the backbone's parameters without gradient.

    Raises:
        ArithmeticError: If the loss or a gradient is not finite.
    """
    model.train()
    # some losses read the epoch and the iteration
    for name in ('epoch', 'iter'):
        MessageHub.get_current_instance().update_info(name, 0)
    data = model.data_preprocessor(data, True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    if not loss.isfinite():
        raise ArithmeticError(f'the loss is {loss.item()}')
    loss.backward()
    unused = []
    for name, parameter in model.named_parameters():
        if 'backbone' not in name.split('.') or not parameter.requires_grad:
            continue
        if parameter.grad is None:
            unused.append(name)
        elif not parameter.grad.isfinite().all():
            raise ArithmeticError(f'the gradient of {name} is not finite')
    return loss.item(), tuple(unused)


def test_step(model: nn.Module, data: dict) -> None:
    """Predict.

    Raises:
        ArithmeticError: If a score or a box is not finite.
        RuntimeError: If an image has no result.
    """
    model.eval()
    wanted = len(data['data_samples'])
    with torch.no_grad():
        samples = model.test_step(data)
    if len(samples) != wanted:
        raise RuntimeError(f'{len(samples)} results for {wanted} images')
    for sample in samples:
        found = sample.get('pred_instances')
        for key in ('scores', 'bboxes') if found is not None else ():
            if key in found and not found[key].isfinite().all():
                raise ArithmeticError(f'{key} are not finite')


def swapped_parts(model: nn.Module) -> str:
    """A text about the convolutions that a ``Swapped`` has replaced, and its
    parameters before."""
    reports = [part.swap_report for part in model.modules()
               if hasattr(part, 'swap_report')]
    return ''.join(
        f', {len(r.swapped) or "none"} of '
        f'{len(r.swapped) + len(r.passed_over)} convolutions '
        f'(dense: {r.params[0] / 1e6:.2f} M)' for r in reports)


@dataclass(frozen=True)
class Attempt:
    """The result of trying a config with one backbone.

    ``failed`` is empty if all worked, else the step: 'build', 'train', 'test'
    (a crash or a timeout: 'run'); ``error`` says why. ``params``: number of
    the backbone's parameters; ``unused``: those that got no gradient, a
    failure of the training.
    """

    backbone: str = ''
    params: int | None = None
    loss: float | None = None
    failed: str = ''
    error: str = ''
    unused: tuple[str, ...] = ()


def attempt(config: str, backbone: str | None,
            size: int = SIZES[0]) -> Attempt:
    """Build, train and test once.

    Args:
        config (str): Path, or ``mmdet::FOLDER/NAME.py``.
        backbone (str | None): Type to swap to; None: the stock config.
        size (int): Height and width of the images in pixels. Defaults to 128.
    """
    torch.manual_seed(0)
    done, step = Attempt(), 'build'
    try:
        cfg = load_config(config)
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        model_cfg = cfg.model
        remove_weights(model_cfg)
        done = replace(done, backbone=swap_in_model(model_cfg, backbone))
        # SyncBN needs a GPU
        model = revert_sync_batchnorm(MODELS.build(model_cfg))
        done = replace(
            done,
            backbone=done.backbone + swapped_parts(model),
            params=sum(p.numel() for n, p in model.named_parameters()
                       if 'backbone' in n.split('.')))
        model.init_weights()
        step = 'train'
        data = random_images(model_cfg, size)
        if 'semi_train_cfg' in model_cfg:
            data = branches(data)
        loss, unused = train_step(model, data)
        done = replace(done, loss=loss, unused=unused)
        step = 'test'
        test_step(model, random_images(model_cfg, size))
        if unused:
            step = 'train'
            raise RuntimeError(f'{unused[0]} gets no gradient')
    except Exception as error:  # any error goes into the table
        traceback.print_exc()
        # an assert usually has no message
        text = str(error).strip() or traceback.extract_tb(
            error.__traceback__)[-1].line
        text = ' '.join(text.splitlines()[0].split())
        done = replace(
            done, failed=step, error=f'{type(error).__name__}: {text}')
    return done


def _child(pipe, log: str, *args) -> None:
    with open(log, 'w') as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    pipe.send(attempt(*args))


def attempt_apart(config: str,
                  backbone: str | None,
                  size: int = SIZES[0],
                  timeout: float = 300,
                  log_dir: str | None = None) -> Attempt:
    """:func:`attempt` in a process of its own, which may crash or hang.

    Args:
        config, backbone, size: See :func:`attempt`.
        timeout (float): Seconds. Defaults to 300.
        log_dir (str | None): Folder for what the process prints, a file for
            each config and backbone. Defaults to None.
    """
    log = os.devnull
    if log_dir is not None:
        os.makedirs(log_dir, exist_ok=True)
        log = os.path.join(log_dir,
                           f'{Path(config).stem}.{backbone or "stock"}.log')
    # forked from a server that has imported everything
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['mmdet.models', 'mmdet_scconv'])
    here, there = context.Pipe(duplex=False)
    process = context.Process(
        target=_child, args=(there, log, config, backbone, size))
    process.start()
    there.close()
    try:
        if here.poll(timeout):
            return here.recv()
        error = f'not finished after {timeout:.0f} s'
    except EOFError:
        process.join()
        error = f'the process ended with exit code {process.exitcode}'
    finally:
        process.kill()
        process.join()
        here.close()
    return Attempt(failed='run', error=error)
