"""Export a part of a model to ONNX or torch.export, and check the file.

The file takes any batch size, height and width. It is run, and gets its name
if its outputs agree with PyTorch's. If they do not, it is deleted.
"""
import os
import os.path as osp
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor

from ..atomic import write_atomically
from ..layers.common import check, is_int
from . import files
from .gates import Gates
from .judge import (
    Difference,
    ExportError,
    Part,
    Tally,
    judge_picture,
    judge_random,
)
from .measure import Comparison, compare_at, seconds_of

TOLERANCE = 1e-3


@contextmanager
def as_export_error(what: str) -> Iterator[None]:
    """Convert any error of a runtime to an ExportError of one line."""
    try:
        yield
    except Exception as error:
        line = next(iter(str(error).strip().splitlines()), '')
        raise ExportError(f'{what}: {type(error).__name__}: {line}') from error


def random_images(batch: int, height: int, width: int) -> Tensor:
    return torch.randn(batch, 3, height, width)


def check_shape(shape: Sequence[int]) -> None:
    """Raises:
        ValueError: If a shape is not batch size, height and width.
    """
    check(
        len(shape) == 3 and all(is_int(size, 1) for size in shape), 'shape',
        shape, 'batch size, height and width, each at least 1')


def one_line_errors(file: Callable) -> Callable[[Tensor], list[Tensor]]:
    """A function that runs a file, and raises only ExportErrors."""

    def run(images: Tensor) -> list[Tensor]:
        with as_export_error('the exported file cannot be run on '
                             f'{tuple(images.shape)}'):
            return file(images)

    return run


def judge(part: Part, file: Callable, shapes: Sequence[tuple[int, int, int]],
          images: Sequence[Tensor],
          tolerance: float) -> list[tuple[Tensor, Tally]]:
    """Judge a file with random images of some shapes, and with pictures.

    Args: See :func:`export`; ``file`` is of :func:`one_line_errors`.

    Returns:
        list: Images of each kind, and how they were judged.

    Raises:
        ExportError: If the file cannot be run, or too few can be judged.
    """
    generator = torch.Generator().manual_seed(0)
    gates = Gates(part.gated or part.reference)
    judged = []
    if shapes:
        tallies = judge_random(part, gates, file, shapes, tolerance, generator)
        judged += zip((random_images(*shape) for shape in shapes), tallies)
    judged += (judge_picture(part, gates, file, picture, tolerance, generator)
               for picture in images)
    return judged


def check_verdict(judged: Sequence[tuple[Tensor, Tally]],
                  comparisons: Sequence[Comparison],
                  tolerance: float) -> None:
    """
    Raises:
        ExportError: If one image differs, or there was nothing to compare.
    """
    wrong = sum(tally.wrong for _, tally in judged)
    if wrong:
        worst = max(tally.relative for _, tally in judged)
        raise ExportError(
            f'in {wrong} of {sum(tally.judged for _, tally in judged)} '
            'judged images outputs of the exported file differ from '
            f'PyTorch by up to {worst:.1e} of the largest value, more '
            f'than {tolerance:.1e}: it was removed', comparisons)
    if not sum(c.difference.compared for c in comparisons):
        raise ExportError(
            'nothing was detected in any input, so nothing could be '
            'compared: name pictures with objects (--images), or lower '
            'the score threshold', comparisons)


def export(part: Part,
           path: str,
           shapes: Sequence[tuple[int, int, int]] | None = None,
           images: Sequence[Tensor] = (),
           timed: Sequence[tuple[int, int, int]] = (),
           tolerance: float = TOLERANCE,
           rounds: int = 5) -> list[Comparison]:
    """Write a file and check it against PyTorch.

    Args:
        part (Part): What to export.
        path (str): Ends in .onnx or .pt2; an older file is replaced when the
            new one is right.
        shapes (Sequence): Batch sizes, heights and widths of random images to
            check with. Defaults to the part's.
        images (Sequence[Tensor]): Further inputs to check with; they are
            shrunk. Each image that can be judged must agree, random or not.
        timed (Sequence): Shapes that are timed; their difference is not
            judged.
        tolerance (float): The largest relative difference that is right.
        rounds (int): Timed calls of each. Defaults to 5.

    Returns:
        list: One Comparison each of ``shapes``, ``images``, ``timed``.

    Raises:
        ImportError: If a package is missing; says which.
        ValueError: For a bad argument.
        OSError: If the file cannot be written.
        ExportError: If the model cannot be traced, the file cannot be run,
            its outputs differ by more, too few images could be judged, or
            there was nothing to compare; nothing is left of it then, and an
            older file is kept.
    """
    stem, suffix = osp.splitext(path)
    check(suffix in files.SUFFIXES, 'path', path,
          f'it ends in one of {files.SUFFIXES}')
    check(tolerance > 0, 'tolerance', tolerance, 'a number > 0')
    shapes = part.shapes if shapes is None else shapes
    check(len(shapes) + len(images), 'shapes', shapes, 'at least one')
    for shape in (*shapes, *timed):
        check_shape(shape)
    files.check_packages(path)
    os.makedirs(osp.dirname(path) or os.curdir, exist_ok=True)
    with as_export_error('the model cannot be traced'):
        program = files.trace(part.module)
    unchecked = f'{stem}.part{suffix}'
    try:
        files.write(program, unchecked, part)
        with as_export_error('the exported file cannot be loaded'):
            file = one_line_errors(files.load(unchecked))
        judged = judge(part, file, shapes, images, tolerance)
        comparisons = [
            Comparison(
                tuple(inputs.shape),
                Difference(tally.absolute, tally.relative, tally.compared),
                tally.judged, tally.drawn,
                *seconds_of((part.module, file), inputs, rounds))
            for inputs, tally in judged
        ]
        check_verdict(judged, comparisons, tolerance)
        comparisons += [
            compare_at(part, file, random_images(*shape), rounds)
            for shape in timed
        ]
        write_atomically(path, Path(unchecked).read_bytes())
    finally:
        with suppress(FileNotFoundError):
            os.remove(unchecked)
    return comparisons
