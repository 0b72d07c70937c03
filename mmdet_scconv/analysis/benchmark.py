"""Run time of models side by side: interleaved, as ratios, with spread.

Absolute times of a shared machine are not stable. So every round runs each
system once, the ratio to the first system is taken within the round, and the
median over the rounds is what counts.
"""
import contextlib
import copy
import platform
import statistics
import subprocess  # noqa: S404 (starts this Python, fixed arguments)
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date

import torch
from matplotlib.figure import Figure
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from rich.progress import Progress
from torch import Tensor, nn

from ..layers import kernels
from .complexity import without_checkpoint
from .textbook import to_textbook

PARTS = ('backbone', 'detector', 'layer')
TASKS = ('inference', 'training')
FORMS = ('as-is', 'textbook', 'deploy')
EXECUTIONS = ('eager', 'compile', 'cuda-graphs')
# 'fp32' and 'tf32' differ on GPUs alone; the others are autocast (AMP)
DTYPES = {
    'fp32': None,
    'tf32': None,
    'bf16': torch.bfloat16,
    'fp16': torch.float16,
}


@dataclass(frozen=True)
class Case:
    """What all systems of one comparison have in common.

    Args:
        part (str): One of ``PARTS``; 'layer': the second block's conv2 of
            each stage, one after the other.
        task (str): 'inference' or 'training' (forward and backward).
        execution (str): One of ``EXECUTIONS``; 'cuda-graphs' is
            torch.compile's mode 'reduce-overhead'.
        dtype (str): One of ``DTYPES``.
        batch (int): Images a step.
        shape (tuple): Height and width of the images in pixels.
        norm_eval (bool): Whether BatchNorms use running statistics in
            training, as when a detector is fine-tuned.
        device (str): 'cpu' or 'cuda'.
        channels_last (bool): Memory format.
    """

    part: str = 'backbone'
    task: str = 'inference'
    execution: str = 'eager'
    dtype: str = 'fp32'
    batch: int = 1
    shape: tuple[int, int] = (800, 1344)
    norm_eval: bool = True
    device: str = 'cpu'
    channels_last: bool = True

    def __str__(self) -> str:
        height, width = self.shape
        words = [self.part, self.task, self.execution, self.dtype,
                 f'{self.batch}x{height}x{width}', self.device]
        if self.task == 'training':
            words.append('norm_eval' if self.norm_eval else 'batch statistics')
        if not self.channels_last:
            words.append('contiguous')
        return ', '.join(words)


@dataclass
class Timing:
    """Measurements of one system in one case."""

    name: str
    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    kept_mb: float | None = None
    peak_mb: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def ratio(self) -> float:
        """Time relative to the first system's: the median over rounds."""
        return statistics.median(self.ratios)

    @property
    def ratio_spread(self) -> tuple[float, float]:
        """Quartiles of the ratio over rounds."""
        if len(self.ratios) < 2:
            return self.ratio, self.ratio
        low, _, high = statistics.quantiles(
            self.ratios, n=4, method='inclusive')
        return low, high


def environment(device: str) -> str:
    """Hardware and software that a time depends on, in one line."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open('/proc/cpuinfo') as f:
        models = [line.split(':', 1)[1].strip() for line in f
                  if line.startswith('model name')]
        name = models[0] if models else name
    words = [f'{name}, {torch.get_num_threads()} threads',
             torch.backends.cpu.get_cpu_capability(),
             f'torch {torch.__version__}',
             'SRU kernel ' + ('built' if kernels.BUILT else 'not built'),
             date.today().isoformat()]
    if device == 'cuda':
        words.insert(0, torch.cuda.get_device_name())
    return '; '.join(words)


def detector_inputs(case: Case) -> tuple[Tensor, list[DetDataSample]]:
    """Noise with four boxes an image."""
    height, width = case.shape
    x = torch.randn(case.batch, 3, height, width, device=case.device)
    samples = []
    for _ in range(case.batch):
        corner = torch.rand(4, 2) * 0.5
        boxes = torch.cat([corner, corner + 0.1 + 0.4 * torch.rand(4, 2)], 1)
        sample = DetDataSample(metainfo=dict(
            img_shape=case.shape, ori_shape=case.shape, pad_shape=case.shape,
            batch_input_shape=case.shape, scale_factor=(1., 1.)))
        sample.gt_instances = InstanceData(
            bboxes=boxes * torch.tensor([width, height] * 2),
            labels=torch.zeros(4, dtype=torch.long)).to(case.device)
        samples.append(sample)
    return x, samples


def settle(backbone: nn.Module) -> None:
    """Give BatchNorms the statistics of their inputs.

    Otherwise the activations of a network of random weights explode, and
    infinite numbers take another time than ordinary ones.
    """
    norms = [m for m in backbone.modules()
             if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train().momentum = 1.
    with torch.no_grad():
        backbone(torch.randn(2, 3, 128, 128,
                             device=next(backbone.parameters()).device))
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum


def build(cfg: dict, form: str, case: Case) -> nn.Module:
    """One system's model (the backbone where the case is not of detectors).

    Raises:
        ValueError: If the form does not fit: textbook without SCConv,
            deploy in a training or of a stock backbone.
    """
    cfg = without_checkpoint(copy.deepcopy(ConfigDict(cfg)))
    # as many parameters have gradients as in a training from scratch
    cfg.backbone.update(
        norm_eval=case.norm_eval, frozen_stages=-1)
    torch.manual_seed(0)
    model = MODELS.build(cfg if case.part == 'detector' else cfg.backbone)
    model.to(case.device)
    backbone = model.backbone if case.part == 'detector' else model
    settle(backbone)
    model.train(case.task == 'training')
    if form == 'textbook':
        to_textbook(backbone)
    elif form == 'deploy':
        if case.task == 'training' or not hasattr(backbone,
                                                  'switch_to_deploy'):
            raise ValueError(
                f'form={form!r} is not valid for {type(backbone).__name__} '
                f'in task={case.task!r}: only the backbones of mmdet_scconv '
                'have it, for inference')
        backbone.switch_to_deploy()
    if case.channels_last:
        backbone.to(memory_format=torch.channels_last)
    return model


def layer_inputs(backbone: nn.Module,
                 case: Case) -> list[tuple[nn.Module, Tensor]]:
    """conv2 of each stage's second block, and what comes into it."""
    found = []
    convs = [getattr(backbone, name)[1].conv2 for name in backbone.res_layers]
    handles = [
        conv.register_forward_hook(
            lambda module, args, out: found.append((module, args[0])))
        for conv in convs
    ]
    with torch.no_grad():
        backbone(torch.randn(case.batch, 3, *case.shape, device=case.device))
    for handle in handles:
        handle.remove()
    return [(conv, x.detach().requires_grad_(case.task == 'training'))
            for conv, x in found]


def step_of(model: nn.Module, case: Case) -> tuple[Callable, Callable]:
    """Functions that run one step of the case, and its forward pass alone.

    The latter returns the outputs.
    """

    def compiled(module: nn.Module):
        if case.execution == 'eager':
            return module
        mode = {'cuda-graphs': 'reduce-overhead'}.get(case.execution)
        return torch.compile(module, mode=mode)

    if case.part == 'layer':
        layers = [(compiled(conv), x) for conv, x in layer_inputs(model, case)]

        def forward():
            return [conv(x) for conv, x in layers]
    elif case.part == 'backbone':
        net = compiled(model)
        image = torch.randn(case.batch, 3, *case.shape, device=case.device)
        if case.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)

        def forward():
            return net(image)
    else:
        if case.execution != 'eager':
            for part in (model.backbone, model.neck):
                part.compile(mode={'cuda-graphs': 'reduce-overhead'}.get(
                    case.execution))
        # mmcv's RoIAlign reads channels_last maps wrongly
        model.neck.register_forward_hook(
            lambda module, args, out: tuple(o.contiguous() for o in out))
        image, samples = detector_inputs(case)

        def forward():
            if case.task == 'inference':
                return model(image, samples, mode='predict')
            losses = model(image, samples, mode='loss')
            return [model.parse_losses(losses)[0]]

    dtype = DTYPES[case.dtype]

    def cast_forward():
        with torch.autocast(case.device, dtype, enabled=dtype is not None):
            return forward()

    def step():
        if case.task == 'inference':
            with torch.no_grad():
                cast_forward()
            return
        sum(out.float().sum() for out in cast_forward()).backward()
        model.zero_grad(set_to_none=True)

    return step, cast_forward


@contextlib.contextmanager
def precision(case: Case) -> Iterator[None]:
    """float32 products of GPUs in full precision, or in TF32."""
    before = torch.get_float32_matmul_precision()
    cudnn = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = case.dtype != 'fp32'
    torch.set_float32_matmul_precision(
        'highest' if case.dtype == 'fp32' else 'high')
    yield
    torch.set_float32_matmul_precision(before)
    torch.backends.cudnn.allow_tf32 = cudnn


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Others that keep ``count`` cores busy meanwhile."""
    others = [
        subprocess.Popen(  # noqa: S603 (fixed arguments)
            [sys.executable, '-c', 'while True: sum(range(10000))'])
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def kept_for_backward(forward: Callable[[], list[Tensor]],
                      device: str) -> float:
    """MB that a forward pass leaves allocated, its outputs included."""
    if device == 'cuda':
        before = torch.cuda.memory_allocated()
        outputs = forward()  # noqa: F841 (keeps them)
        return (torch.cuda.memory_allocated() - before) / 1e6
    with torch.profiler.profile(profile_memory=True) as profile:
        outputs = forward()  # noqa: F841 (keeps them)
    events = profile.profiler.kineto_results.events()
    return sum(event.nbytes() for event in events
               if event.name() == '[memory]') / 1e6


def timed(step: Callable[[], None], case: Case) -> float:
    """Seconds of one step, all of a GPU's work included."""
    if case.device == 'cuda':
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if case.device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(case: Case,
            systems: dict[str, tuple[dict, str]],
            rounds: int = 11,
            warm_up: int = 2,
            load: int = 0) -> list[Timing]:
    """Time systems side by side; ratios are to the first of them.

    Args:
        case (Case): What to measure.
        systems (dict): Names; of each the config of a detector's model, and
            its form (``FORMS``).
        rounds (int): Runs of each system. Defaults to 11.
        warm_up (int): Runs of each before, compilation among them.
            Defaults to 2.
        load (int): Processes that compete for the cores. Defaults to 0.

    Returns:
        list: One Timing a system.

    Raises:
        ValueError: See :func:`build`.
    """
    models = {name: build(*system, case) for name, system in systems.items()}
    timings = [Timing(name) for name in systems]
    with precision(case), busy_processes(load), Progress(
            transient=True) as progress:
        task = progress.add_task(str(case), total=rounds + warm_up)
        steps, forwards = zip(
            *(step_of(model, case) for model in models.values()))
        for _ in range(warm_up):
            for step in steps:
                step()
            progress.advance(task)
        for i in range(rounds):
            order = range(len(steps))
            # each has each of the others before it
            for j in order if i % 2 else reversed(order):
                timings[j].seconds.append(timed(steps[j], case))
            for timing in timings:
                timing.ratios.append(
                    timing.seconds[-1] / timings[0].seconds[-1])
            progress.advance(task)
        for timing, step, forward in zip(timings, steps, forwards):
            if case.task == 'training':
                timing.kept_mb = kept_for_backward(forward, case.device)
            if case.device == 'cuda':
                torch.cuda.reset_peak_memory_stats()
                step()
                timing.peak_mb = torch.cuda.max_memory_allocated() / 1e6
    torch.compiler.reset()
    return timings


COLUMNS = ('case', 'system', 'median s', 'ratio', 'ratio, quartiles',
           'kept MB', 'peak MB')


def lines(case: Case, timings: list[Timing]) -> list[list[str]]:
    """Rows of a table with ``COLUMNS``."""

    def figure(value, form):
        return '' if value is None else format(value, form)

    return [[
        str(case), timing.name, f'{timing.median:.4f}', f'{timing.ratio:.3f}',
        '{:.3f} to {:.3f}'.format(*timing.ratio_spread),
        figure(timing.kept_mb, '.0f'),
        figure(timing.peak_mb, '.0f')
    ] for timing in timings]


def plot(results: list[tuple[Case, list[Timing]]], title: str) -> Figure:
    """Ratios as bars with their quartiles, a group for each case."""
    bars = sum(len(timings) for _, timings in results)
    figure = Figure(figsize=(9, 1.5 + 0.28 * (bars + 1.5 * len(results))))
    axes = figure.subplots()
    names = list(dict.fromkeys(
        t.name for _, timings in results for t in timings))
    y, ticks = 0., []
    for case, timings in results:
        axes.text(0, y - 0.2, str(case), fontsize=8, va='bottom')
        for timing in timings:
            y += 1
            low, high = timing.ratio_spread
            axes.barh(
                y - 0.5, timing.ratio, height=0.8,
                xerr=[[timing.ratio - low], [high - timing.ratio]], capsize=2,
                color=f'C{names.index(timing.name)}')
            axes.text(
                high, y - 0.5, f'  {timing.ratio:.2f}', fontsize=8,
                va='center')
            ticks.append((y - 0.5, timing.name))
        y += 1.5
    axes.set_yticks([t for t, _ in ticks], [name for _, name in ticks],
                    fontsize=8)
    axes.margins(x=0.1)
    axes.axvline(1, color='grey', linewidth=0.8)
    axes.set_xlabel(f'time relative to {names[0]} (median, quartiles)')
    axes.set_ylim(y - 1, -1)
    axes.set_title(title, fontsize=8, wrap=True)
    figure.tight_layout()
    return figure
