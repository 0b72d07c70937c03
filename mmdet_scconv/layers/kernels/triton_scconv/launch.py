"""A kernel that is launched again and again, and layouts of maps."""
from concurrent.futures import ThreadPoolExecutor

import torch
import triton
from torch import Tensor


def power_of_2(value: int, low: int = 16, high: int = 1 << 30) -> int:
    """The block size for ``value``: a power of 2 within bounds."""
    return min(high, max(low, triton.next_power_of_2(value)))


def is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


def dense(x: Tensor) -> Tensor:
    """A map that is contiguous in one of both layouts."""
    if is_channels_last(x) or x.is_contiguous():
        return x
    return x.contiguous(memory_format=torch.channels_last)


def aligned(x: Tensor) -> Tensor:
    """A map that begins at a multiple of 16 bytes, as those do for which a
    kernel was compiled; a part of another map may not."""
    return x if x.data_ptr() % 16 == 0 else x.clone()


def map_strides(channels: int, pixels: int,
                channels_last: bool) -> tuple[int, int, int]:
    """Of samples, channels and pixels."""
    return (channels * pixels, *((1, channels) if channels_last else
                                 (pixels, 1)))


class Launch:
    """A kernel with all that does not change from call to call.

    Triton looks up anew in each call which compiled form fits the arguments,
    which takes longer than a small kernel runs. Here that is done once.

    Args:
        kernel: Takes tensors, then numbers, then constants.
        grid (tuple): Up to three sizes.
        numbers (tuple): Its arguments behind the tensors.
        warps (int): Of each program.
        stages (int): Of the loads' pipeline.
        constants: Its ``tl.constexpr`` arguments, by name.
    """

    def __init__(self, kernel, grid: tuple, numbers: tuple, warps: int = 4,
                 stages: int = 3, **constants) -> None:
        self.kernel, self.numbers = kernel, numbers
        self.options = dict(num_warps=warps, num_stages=stages)
        self.grid = (*grid, 1, 1)[:3]
        self.constants = constants
        self.runner = None

    def __call__(self, *tensors: Tensor) -> None:
        if self.runner is not None:
            self.runner(*tensors, *self.rest)
            return
        compiled = self.kernel[self.grid](
            *tensors, *self.numbers, **self.options, **self.constants)
        if compiled is not None:  # the interpreter returns nothing
            self.keep(compiled)

    def compile(self, *tensors: Tensor) -> None:
        """Without launching; in Triton's ``AsyncCompileMode`` it goes on
        until that is left."""
        compiled = self.kernel.warmup(
            *tensors, *self.numbers, grid=self.grid, **self.options,
            **self.constants)
        if not isinstance(compiled, triton.FutureKernel):
            self.keep(compiled)  # it had been compiled, for another size

    def keep(self, compiled) -> None:
        """Launch this compiled form from now on."""
        names = self.kernel.arg_names[-len(self.constants):]
        self.rest = (*self.numbers, *(self.constants[n] for n in names))
        self.runner = compiled[self.grid]


def launch_in_order(*launches: tuple) -> None:
    """Launch; what is not compiled yet is compiled first, all at once.

    Args:
        launches (tuple): Each a :class:`Launch` and its tensors.
    """
    waiting = [launch for launch in launches if launch[0].runner is None]
    # Triton launches on the current device, which need not be the tensors'
    with torch.cuda.device_of(launches[0][1]):
        if waiting:
            compile_in_threads(waiting)
        for launch, *tensors in launches:
            launch(*tensors)


def compile_in_threads(launches: list[tuple]) -> None:
    """Compile for the first launch: Triton does not hold Python's lock.

    The interpreter has nothing to compile. A Triton without this mode
    compiles one kernel after the other when it launches them. What cannot be
    compiled raises its error when it is launched.
    """
    if not (isinstance(launches[0][0].kernel, triton.JITFunction)
            and hasattr(triton, 'AsyncCompileMode')):
        return
    with ThreadPoolExecutor() as threads, triton.AsyncCompileMode(
            threads, ignore_errors=True):
        for launch, *tensors in launches:
            launch.compile(*tensors)
