"""Start an SCConv-ResNet from the weights of an ordinary ResNet.

Block by block from the input to the output: everything but conv2 is copied,
the SCConv is fitted to give what the dense conv2 gave (:mod:`.fit`), then
trained to let the block give what the dense block gave. The dense network
sees the images alone; a converted block sees what the converted blocks
before it give, so that it can make good for them.
"""
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from mmdet.models.backbones import ResNet
from mmengine.logging import MMLogger
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..backbones import SCConvResNet
from ..pretrained.key_names import depth_and_width
from .fit import FitError, Moments, check_fits, fit

METHODS = ('copy', 'fit', 'distill')
# share of the batches that errors are measured on and that choices are made
# by; the others are fitted to
HELD_OUT = 0.25
# output positions to fit to, as a multiple of what a position sees
POSITIONS = 24


@dataclass
class BlockReport:
    """How far a block is from the dense one: shares of variance missed, on
    images held out, with running statistics.

    ``conv2_*``: of what the norm behind conv2 gives; ``block_*``: of the
    block's output. ``initial``: as initialised, all statistics estimated;
    ``fitted``: closed form; ``distilled``: at the end.
    """

    name: str
    seconds: float
    ridge: float
    conv2_initial: float
    conv2_fitted: float
    block_initial: float
    block_fitted: float
    block_distilled: float | None = None


class Share:
    """Share of a target's variance missed, over batches: the mean of the
    channels' shares. Channels that hardly vary count less (see
    ``variances``)."""

    def __init__(self) -> None:
        self.count = 0
        self.missed: Tensor | float = 0.
        self.sum: Tensor | float = 0.
        self.squares: Tensor | float = 0.

    def update(self, output: Tensor, target: Tensor) -> None:
        """Both (N, C, H, W)."""
        target = target.double()
        self.count += target.numel() // target.shape[1]
        self.missed += (output - target).square().sum((0, 2, 3))
        self.sum += target.sum((0, 2, 3))
        self.squares += target.square().sum((0, 2, 3))

    @property
    def variances(self) -> Tensor:
        """Of the target's channels, at least 1/100 of their mean: (C, )."""
        variances = self.squares / self.count - (self.sum / self.count)**2
        return variances.clamp(min=max(0.01 * float(variances.mean()), 1e-30))

    def value(self) -> float:
        return float((self.missed / self.count / self.variances).mean())


@contextmanager
def captured(module: nn.Module) -> Iterator[dict[str, Tensor]]:
    """The last input and output of a module, as ``x`` and ``y``."""
    kept: dict[str, Tensor] = {}

    def hook(_, inputs, output) -> None:
        kept.update(x=inputs[0], y=output)

    handle = module.register_forward_hook(hook)
    try:
        yield kept
    finally:
        handle.remove()


@contextmanager
def quiet() -> Iterator[None]:
    """Without MMEngine's line for each initialised weight."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def estimate_statistics(run: Callable[[Tensor], Tensor],
                        norms: list[_BatchNorm],
                        inputs: list[Tensor]) -> None:
    """Set the running statistics of norms to their mean over batches."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
        norm.train()
    with torch.no_grad():
        for x in inputs:
            run(x)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
        norm.eval()


class BlockPair:
    """A dense block and the converted one, at the same place.

    Args:
        name (str): E.g. ``layer1.0``.
        dense (nn.Module): BasicBlock or Bottleneck.
        block (nn.Module): The same with an SCConv as conv2; changed.
        device (torch.device): Where both compute.
    """

    def __init__(self, name: str, dense: nn.Module, block: nn.Module,
                 device: torch.device) -> None:
        self.name, self.device = name, device
        self.dense, self.block = dense.to(device), block.to(device)
        self.conv, self.norm = block.conv2, block.norm2

    @property
    def inner_norms(self) -> list[_BatchNorm]:
        return [m for m in self.conv.modules() if isinstance(m, _BatchNorm)]

    def run(self, x: Tensor) -> Tensor:
        return self.block(x.to(self.device))

    @torch.no_grad()
    def errors(self, inputs: list[Tensor],
               dense_inputs: list[Tensor]) -> tuple[float, float]:
        """Shares missed behind the norm of conv2 and behind the block."""
        at_norm, at_block = Share(), Share()
        with captured(self.conv) as ours, captured(self.dense.conv2) as its:
            for x, dense_x in zip(inputs, dense_inputs):
                target = self.dense(dense_x.to(self.device))
                at_block.update(self.run(x), target)
                at_norm.update(self.norm(ours['y']),
                               self.dense.norm2(its['y']))
        return at_norm.value(), at_block.value()

    def initial_errors(self, inputs: list[Tensor], dense_inputs: list[Tensor],
                       held_out: int) -> tuple[float, float]:
        """As :meth:`errors` of the last batches, with the statistics that
        the weights as initialised have."""
        saved = {k: v.clone() for k, v in self.norm.state_dict().items()}
        estimate_statistics(self.run, [*self.inner_norms, self.norm], inputs)
        errors = self.errors(inputs[-held_out:], dense_inputs[-held_out:])
        self.norm.load_state_dict(saved)
        return errors

    @torch.no_grad()
    def add_moments(self, moments: Moments, inputs: list[Tensor],
                    dense_inputs: list[Tensor], positions: int) -> None:
        positions = -(-positions // len(inputs))
        with captured(self.conv) as ours, captured(self.dense.conv2) as its:
            for x, dense_x in zip(inputs, dense_inputs):
                self.run(x)
                self.dense(dense_x.to(self.device))
                moments.update(ours['x'], its['y'], positions)

    def fit(self, inputs: list[Tensor], dense_inputs: list[Tensor],
            held_out: int) -> BlockReport:
        """Fit conv2; the last ``held_out`` batches tell how well.

        Raises:
            FitError: Names the block and the reason.
        """
        start = time.perf_counter()
        initial = self.initial_errors(inputs, dense_inputs, held_out)
        norm = self.norm
        scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
        moments = Moments(self.conv, scale), Moments(self.conv, scale)
        last = [split[-held_out:] for split in (inputs, dense_inputs)]
        first = [split[:-held_out] for split in (inputs, dense_inputs)]
        positions = POSITIONS * moments[0].layout.size
        self.add_moments(moments[0], *first, positions)
        self.add_moments(moments[1], *last, positions)
        try:
            found = fit(self.conv, *moments)
        except FitError as error:
            raise FitError(f'{self.name}.conv2: {error}') from error
        fitted = self.errors(*last)
        return BlockReport(self.name, time.perf_counter() - start,
                           found.ridge, initial[0], fitted[0], initial[1],
                           fitted[1])

    def distill(self, inputs: list[Tensor], dense_inputs: list[Tensor],
                held_out: int, steps: int, lr: float,
                advance: Callable[[], None]) -> float:
        """Train conv2 and its norm towards the dense block's outputs.

        Adam with cosine decay, on the norms' batch statistics, which are
        then estimated anew. What does not help on the held-out batches is
        undone.

        Returns:
            float: Share of the block's variance missed.
        """
        with torch.no_grad():
            targets = [
                self.dense(x.to(self.device)).cpu() for x in dense_inputs
            ]
        norms = [*self.inner_norms, self.norm]
        last = inputs[-held_out:], dense_inputs[-held_out:]
        before = self.errors(*last)[1]
        saved = {k: v.clone() for k, v in self.block.state_dict().items()}
        parameters = [*self.conv.parameters(), *self.norm.parameters()]
        adam = torch.optim.Adam(parameters, lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
        share = Share()
        for target in targets:
            share.update(target, target)
        weight = (1 / share.variances).float().to(self.device).view(-1, 1, 1)
        for norm in norms:
            norm.train()
        order: list[int] = []
        for _ in range(steps):
            order = order or torch.randperm(len(inputs) - held_out).tolist()
            i = order.pop()
            missed = self.run(inputs[i]) - targets[i].to(self.device)
            loss = (weight * missed.square()).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
            advance()
        for p in self.block.parameters():
            p.grad = None
        estimate_statistics(self.run, norms, inputs)
        after = self.errors(*last)[1]
        if after < before:
            return after
        self.block.load_state_dict(saved)
        return before


def stem(backbone: ResNet, x: Tensor) -> Tensor:
    """What comes before the first block."""
    return backbone.maxpool(backbone.relu(backbone.norm1(backbone.conv1(x))))


def blocks_of(backbone: ResNet) -> Iterator[tuple[str, nn.Module]]:
    for layer in backbone.res_layers:
        for i, block in enumerate(getattr(backbone, layer)):
            yield f'{layer}.{i}', block


def build_pair(weights: Mapping[str, Tensor],
               cfg: dict) -> tuple[ResNet, SCConvResNet]:
    """The dense backbone with its weights, and the one to convert to with
    all of them but conv2's.

    Args:
        weights (Mapping): Of :func:`.key_names.resnet_state_dict`.
        cfg (dict): Settings of SCConvResNet; ``depth`` and
            ``base_channels`` follow from the weights where they are missing.

    Raises:
        ValueError: If the weights do not fit the settings.
    """
    depth, width = depth_and_width(weights)
    for name, value in (('depth', depth), ('base_channels', width)):
        if cfg.get(name, value) != value:
            raise ValueError(f'{name}={cfg[name]!r} is not valid: the '
                             f'weights are of {name}={value}')
    # nothing is trained as a backbone here, and nothing to warn about
    cfg = dict(cfg, depth=depth, base_channels=width, init_cfg=None,
               frozen_stages=-1, norm_eval=False)
    cfg.pop('type', None)
    backbone = SCConvResNet(**cfg)
    with quiet():
        backbone.init_weights()
    for name in ('conv2_cfg', 'stages_with_swap'):
        cfg.pop(name, None)
    dense = ResNet(**cfg)
    for network in (dense, backbone):
        wanted = network.state_dict()
        given = {name: tensor for name, tensor in weights.items()
                 if name in wanted}
        missing = [name for name in dense.state_dict() if name not in weights
                   and not name.endswith('num_batches_tracked')]
        if missing:
            raise ValueError(f'{len(missing)} tensors are missing from the '
                             f'weights, e.g. {missing[0]!r}')
        try:
            network.load_state_dict(given, strict=False)
        except RuntimeError as error:
            raise ValueError(f'the weights do not fit: {error}') from error
        network.eval()  # MMDetection's returns None
    return dense, backbone


def load_block(path: Path, request: dict, block: nn.Module) -> dict | None:
    """What an interrupted conversion left of a block, if it did."""
    if not path.exists():
        return None
    state = torch.load(path, map_location='cpu', weights_only=True)
    if state['request'] != request:
        raise ValueError(
            f'{path.parent} holds another conversion that was interrupted: '
            'delete it, or name another output')
    block.load_state_dict(state['block'])
    return state['report']


def save_block(path: Path, request: dict, block: nn.Module,
               report: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix('.unfinished')
    torch.save(dict(request=request, block=block.state_dict(),
                    report=report), unfinished)
    os.replace(unfinished, path)


def convert(dense: ResNet,
            backbone: SCConvResNet,
            images: list[Tensor],
            distill_steps: int = 0,
            lr: float = 1e-3,
            device: str = 'cpu',
            state_dir: str | None = None,
            request: dict | None = None,
            advance: Callable[[str, float], None] = lambda name, share: None,
            ) -> list[BlockReport]:
    """Fit, and distil, all SCConvs of a backbone.

    Args:
        dense (ResNet): The source, of :func:`build_pair`.
        backbone (SCConvResNet): Of the same; changed in place.
        images (list): Batches (N, 3, H, W) as the backbone gets them, two
            or more.
        distill_steps (int): Steps of distillation for each block. Defaults
            to none.
        lr (float): Of the distillation. Defaults to 1e-3.
        device (str): Where to compute. Defaults to 'cpu'.
        state_dir (str | None): Folder where finished blocks are kept, and
            looked for.
        request (dict | None): What the blocks in ``state_dir`` depend on.
        advance (Callable): Called with the name of a block and the share of
            it that was done since the last call.

    Returns:
        list: A report for each block.

    Raises:
        ValueError: For too few images, or a ``state_dir`` of another
            request.
        FitError: If a block cannot be fitted; names it.
    """
    if len(images) < 2:
        raise ValueError(f'{len(images)} batches of images: at least two are '
                         'needed, to fit to and to hold out')
    held_out = max(1, round(HELD_OUT * len(images)))
    device = torch.device(device)
    reports = []
    with torch.no_grad():
        dense.to(device)
        dense_inputs = [stem(dense, x.to(device)).cpu() for x in images]
        dense.cpu()
    inputs = list(dense_inputs)
    for i, ((name, dense_block), (_, block)) in enumerate(
            zip(blocks_of(dense), blocks_of(backbone))):
        pair = BlockPair(name, dense_block, block, device)
        if type(pair.conv) is not nn.Conv2d:
            try:
                check_fits(pair.conv)
            except FitError as error:
                raise FitError(f'{name}.conv2: {error}') from error
            path = state_dir and Path(state_dir, f'{i:03d}_{name}.pth')
            known = path and load_block(path, request, block)
            if known:
                report = BlockReport(**known)
                advance(name, 1.)
            else:
                report = pair.fit(inputs, dense_inputs, held_out)
                if distill_steps:
                    start = time.perf_counter()
                    report.block_distilled = pair.distill(
                        inputs, dense_inputs, held_out, distill_steps, lr,
                        lambda name=name: advance(name, 1 / distill_steps))
                    report.seconds += time.perf_counter() - start
                else:
                    advance(name, 1.)
                if path:
                    save_block(path, request, block, asdict(report))
            reports.append(report)
        with torch.no_grad():
            for j, (x, dense_x) in enumerate(zip(inputs, dense_inputs)):
                inputs[j] = pair.run(x).cpu()
                dense_inputs[j] = pair.dense(dense_x.to(device)).cpu()
        pair.dense.cpu(), pair.block.cpu()
    return reports
