"""Run time of models side by side: interleaved, as ratios, with spread.

Absolute times of a shared machine are not stable. Therefore each round runs
each system once and gives its ratio to the first system; the result is the
median over the rounds.
"""
import contextlib
import platform
import statistics
import subprocess  # noqa: S404 (starts this Python, fixed arguments)
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date

import torch
from rich.progress import Progress
from torch import Tensor, nn

from ..layers.kernels import cpu
from .cases import DTYPES, Case, layer_inputs, random_images


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
    """The hardware and software that times depend on, in one line."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open('/proc/cpuinfo') as f:
        models = [line.split(':', 1)[1].strip() for line in f
                  if line.startswith('model name')]
        name = models[0] if models else name
    words = [f'{name}, {torch.get_num_threads()} threads',
             torch.backends.cpu.get_cpu_capability(),
             f'torch {torch.__version__}',
             'CPU kernels ' + ('built' if cpu.is_loaded() else 'not built'),
             date.today().isoformat()]
    if device == 'cuda':
        words.insert(0, torch.cuda.get_device_name())
    return '; '.join(words)


def plain(outputs: Tensor | Sequence):
    """Tensors, also nested ones, as float32 and contiguous."""
    if isinstance(outputs, Tensor):
        return outputs.float().contiguous()
    return type(outputs)(map(plain, outputs))


def give_plain_outputs(detector: nn.Module) -> None:
    """Let the neck and the heads of a detector return contiguous float32.

    On CPUs mmcv's NMS and RoIAlign take only float32, and its RoIAlign gives
    wrong results for channels_last maps. The layers inside run in the dtype
    and the memory format of the case.
    """
    for name in ('neck', 'rpn_head', 'bbox_head', 'roi_head.bbox_head'):
        with contextlib.suppress(AttributeError):  # not in this detector
            detector.get_submodule(name).register_forward_hook(
                lambda module, args, out: plain(out))


def step_of(model: nn.Module, case: Case) -> tuple[Callable, Callable]:
    """Functions that run one step of the case, and its forward pass alone.

    The latter returns the outputs.
    """

    def compiled(module: nn.Module):
        return torch.compile(module) if case.execution == 'compile' else module

    torch.manual_seed(0)  # the same inputs for all systems
    leaves = []  # inputs that get a gradient, as inside a network
    if case.part == 'layer':
        layers = [(compiled(conv), x) for conv, x in layer_inputs(model, case)]
        leaves += [x for _, x in layers]

        def forward():
            return [conv(x) for conv, x in layers]
    elif case.part == 'backbone':
        net = compiled(model)
        image = random_images(case)

        def forward():
            return net(image)
    else:
        from .models import detector_inputs  # needs MMDetection
        if case.execution == 'compile':
            for part in (model.backbone, model.neck):
                part.compile()
        give_plain_outputs(model)
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
        for leaf in leaves:
            leaf.grad = None

    if case.execution == 'cuda-graphs':
        return in_cuda_graph(step), cast_forward
    return step, cast_forward


def in_cuda_graph(step: Callable[[], None],
                  warm_up: int = 3) -> Callable[[], None]:
    """A function that launches all kernels of a step together.

    Args:
        step (Callable): Without sizes that depend on data.
        warm_up (int): Calls before, in which kernels are compiled and
            compared, which a graph cannot hold. Defaults to 3.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(warm_up):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


@contextlib.contextmanager
def precision(case: Case) -> Iterator[None]:
    """float32 products of GPUs in full precision, or in TF32."""
    before = torch.get_float32_matmul_precision()
    cudnn = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = case.dtype != 'fp32'
    torch.set_float32_matmul_precision(
        'highest' if case.dtype == 'fp32' else 'high')
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32 = cudnn


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Run processes that keep ``count`` cores busy while the block runs."""
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
    """MB that are allocated after a forward pass, its outputs included."""
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
    """Seconds of one step, including the GPU's work."""
    if case.device == 'cuda':
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if case.device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(case: Case,
            systems: dict[str, Callable[[Case], nn.Module]],
            rounds: int = 11,
            warm_up: int = 2,
            load: int = 0) -> list[Timing]:
    """Time systems side by side; ratios are to the first of them.

    Args:
        case (Case): What to measure.
        systems (dict): Names; of each a function that builds its model for
            the case: of models.py or convolutions.py.
        rounds (int): Runs of each system. Defaults to 11.
        warm_up (int): Runs of each before the rounds, with the compilation.
            Defaults to 2.
        load (int): Processes that compete for the cores. Defaults to 0.

    Returns:
        list: One Timing a system.

    Raises:
        ValueError: Of the functions that build.
    """
    models = {name: build(case) for name, build in systems.items()}
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
            # each system follows each other one equally often
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
