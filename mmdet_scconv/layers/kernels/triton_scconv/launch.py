"""A kernel that is launched again and again, and layouts of maps."""
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import or_

import torch
import triton
from torch import Tensor


def power_of_2(value: int, low: int = 16, high: int = 1 << 30) -> int:
    """The block size for ``value``: a power of 2 within bounds."""
    return min(high, max(low, triton.next_power_of_2(value)))


def is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


def layout_of(x: Tensor) -> torch.memory_format:
    """Channels_last where it is that, too."""
    return torch.channels_last if is_channels_last(x) \
        else torch.contiguous_format


def dense(x: Tensor) -> Tensor:
    """A map that is contiguous in one of both layouts."""
    if is_channels_last(x) or x.is_contiguous():
        return x
    return x.contiguous(memory_format=torch.channels_last)


def aligned(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Tensors that begin at a multiple of 16 bytes, as those do for which a
    kernel was compiled; a part of another map, or of one buffer for all
    parameters, may not."""
    if reduce(or_, map(Tensor.data_ptr, tensors), 0) % 16:
        return tuple(t.clone() if t.data_ptr() % 16 else t for t in tensors)
    return tensors


def readable(tensors: tuple[Tensor, ...],
             layout: torch.memory_format = torch.contiguous_format
             ) -> tuple[Tensor, ...]:
    """:func:`aligned`, and contiguous in a layout."""
    return aligned(tuple(t.contiguous(memory_format=layout)
                         for t in tensors))


class Part:
    """An array of float32 or another type within one of bytes. It is made in
    less time than a tensor of its own, or a view.

    Args:
        whole (Tensor): Of bytes.
        begin (int): Byte in it.
        size (int): Number of elements.
        dtype (torch.dtype): Of them.
    """

    __slots__ = ('whole', 'begin', 'size', 'dtype', 'pointer')

    def __init__(self, whole: Tensor, begin: int, size: int,
                 dtype: torch.dtype) -> None:
        self.whole, self.begin = whole, begin
        self.size, self.dtype = size, dtype
        self.pointer = whole.data_ptr() + begin

    def data_ptr(self) -> int:
        return self.pointer

    def tensor(self) -> Tensor:
        """The same as a tensor, which shares its memory."""
        length = self.size * self.dtype.itemsize
        return self.whole[self.begin:self.begin + length].view(self.dtype)


class Parts:
    """The layout of arrays that are allocated as one.

    Args:
        arrays (tuple): Each a number of elements and their type.
    """

    def __init__(self, *arrays: tuple[int, torch.dtype]) -> None:
        self.arrays, self.bytes = [], 0
        for size, dtype in arrays:
            self.arrays.append((self.bytes, size, dtype))
            self.bytes += triton.cdiv(size * dtype.itemsize, 16) * 16

    def allocate(self, device: torch.device) -> list[Part]:
        whole = torch.empty(self.bytes, dtype=torch.uint8, device=device)
        return [Part(whole, *array) for array in self.arrays]


def as_tensors(arrays: tuple) -> list[Tensor]:
    """Tensors and :class:`Part`s as tensors."""
    return [array.tensor() if isinstance(array, Part) else array
            for array in arrays]


def map_strides(channels: int, pixels: int,
                channels_last: bool) -> tuple[int, int]:
    """Of channels and pixels; not of samples, which for odd widths would be a
    multiple of 16 for some sizes only, and another kernel."""
    return (1, channels) if channels_last else (pixels, 1)


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

    def __call__(self, *arrays: Tensor | Part,
                 stream: int | None = None) -> None:
        """Launch on a CUDA stream (default: the current one)."""
        if self.runner is not None:
            # pointers, which Triton need not ask a tensor and CUDA for
            self.runner(*[array.data_ptr() for array in arrays], *self.rest,
                        stream=stream)
            return
        compiled = self.kernel[self.grid](
            *as_tensors(arrays), *self.numbers, **self.options,
            **self.constants)
        if compiled is not None:  # the interpreter returns nothing
            self.keep(compiled)

    def compile(self, *arrays: Tensor | Part) -> None:
        """Without launching; in Triton's ``AsyncCompileMode`` it goes on
        until that is left."""
        compiled = self.kernel.warmup(
            *as_tensors(arrays), *self.numbers, grid=self.grid,
            **self.options, **self.constants)
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
        launches (tuple): Each a :class:`Launch` and its arrays, the first of
            them a tensor.
    """
    waiting = [launch for launch in launches if launch[0].runner is None]
    first = launches[0][1]
    # Triton launches on the current device, which need not be the tensors'
    with torch.cuda.device_of(first):
        if waiting:
            compile_in_threads(waiting)
        # else Triton asks for it in each launch
        stream = triton.runtime.driver.active.get_current_stream(
            first.get_device()) if first.is_cuda else None
        for launch, *arrays in launches:
            launch(*arrays, stream=stream)


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
        for launch, *arrays in launches:
            launch.compile(*arrays)
