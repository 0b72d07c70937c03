"""Export a part of a model to ONNX or torch.export, and check the file.

The file takes any batch size, height and width. It gets its name when it has
been run and its outputs agree with PyTorch's; an export that does not is no
file.
"""
import json
import logging
import os
import os.path as osp
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..layers.common import check, is_int
from .judge import Difference, Gates, Part, Tally
from .operators import onnx_translations

SUFFIXES = ('.onnx', '.pt2')
INPUT = 'images'
METADATA = 'mmdet_scconv.json'  # in a .pt2
# Images to trace with: where a size of one is computed in another way, it is
# the general way that is traced. So there are two, and maps of stride 64 are
# wider than one; height and width differ.
TRACED = (2, 192, 320)
TOLERANCE = 1e-3
# A file that is wrong on a tenth of all images is wrong on one of so many,
# with a probability of 0.999.
JUDGED = 64
MOST_DRAWN = 10 * JUDGED  # among which so many must be found
# Pictures are drawn with a little noise, as large as they can be judged.
PICTURE_DRAWS, PICTURE_JUDGED, NOISE = 20, 4, 0.01
LEAST_SIZE, PICTURE_SIZES = 66, (160, 112, 80, 66)


class WrongExport(Exception):
    """A file that does not do what the model does, or of which that cannot be
    told; it was removed.

    Args:
        message (str): What is wrong.
        comparisons (Sequence): As :func:`export` would have returned.
    """

    def __init__(self,
                 message: str,
                 comparisons: 'Sequence[Comparison]' = ()) -> None:
        super().__init__(message)
        self.comparisons = comparisons


@contextmanager
def wrong_where_it_fails(what: str) -> Iterator[None]:
    """Whatever a runtime raises (each has its own) becomes a WrongExport."""
    try:
        yield
    except Exception as error:
        raise WrongExport(f'{what}: {error}') from error


@dataclass(frozen=True)
class Comparison:
    """A file beside PyTorch on inputs of one kind.

    ``shape``: (N, 3, H, W). ``difference``: the largest of all judged images
    (of the one input, where ``judged`` is 0: it was timed alone). ``judged``
    of ``drawn`` images. Seconds are medians of one call each:
    ``torch_seconds`` of the exported module in eager PyTorch.
    """

    shape: tuple[int, ...]
    difference: Difference
    judged: int
    drawn: int
    torch_seconds: float
    file_seconds: float


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Without the exporter's remarks on its own insides."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', FutureWarning)
            warnings.simplefilter('ignore', DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)


def trace(module: nn.Module,
          shape: tuple[int, int, int] = TRACED) -> ExportedProgram:
    """``torch.export`` with dynamic batch size, height and width.

    Args:
        module (nn.Module): In eval mode, on the CPU.
        shape (tuple): Batch size, height and width to trace with.
    """
    batch, height, width = shape
    sizes = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    with torch.no_grad(), quiet_exporter():
        return torch.export.export(
            module, (torch.randn(batch, 3, height, width), ),
            dynamic_shapes=(sizes, ))


def name_sizes(model) -> None:
    """Call the sizes of an ONNX model's input by their names, in its outputs,
    too (which are expressions of them)."""
    import onnx_ir
    names = {
        str(size): name
        for size, name in zip(model.graph.inputs[0].shape,
                              ('batch', None, 'height', 'width')) if name
    }
    for value in (*model.graph.inputs, *model.graph.outputs):
        sizes = []
        for size in value.shape:
            text = str(size)
            for symbol, name in names.items():
                text = text.replace(symbol, name)
            sizes.append(size if isinstance(size, int) else text)
        value.shape = onnx_ir.Shape(sizes)


def write_onnx(program: ExportedProgram, path: str, part: Part) -> None:
    """Write an ONNX file, weights included."""
    with quiet_exporter():
        onnx = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[INPUT],
            output_names=list(part.outputs),
            custom_translation_table=onnx_translations(),
            verbose=False)
    name_sizes(onnx.model)
    onnx.model.metadata_props.update(part.metadata)
    onnx.save(path, external_data=False)


def write_program(program: ExportedProgram, path: str, part: Part) -> None:
    """Write a torch.export archive, weights included. A whole detector's can
    be loaded where :mod:`mmdet_scconv.deployment.operators` was imported."""
    torch.export.save(
        program, path, extra_files={METADATA: json.dumps(part.metadata)})


def read_metadata(path: str) -> dict[str, str]:
    """What a file says about its inputs and classes."""
    if path.endswith('.onnx'):
        import onnx
        model = onnx.load(path, load_external_data=False)
        return {prop.key: prop.value for prop in model.metadata_props}
    files = {METADATA: ''}
    torch.export.load(path, extra_files=files)
    return json.loads(files[METADATA])


def load(path: str) -> Callable[[Tensor], list[Tensor]]:
    """A function that runs an exported file on the CPU, with as many threads
    as torch has: ONNX in onnxruntime, .pt2 in PyTorch."""
    if path.endswith('.onnx'):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(
            path, options, providers=['CPUExecutionProvider'])

        def run(images: Tensor) -> list[Tensor]:
            return [
                torch.from_numpy(np.asarray(out))
                for out in session.run(None, {INPUT: images.numpy()})
            ]
    else:
        module = torch.export.load(path).module()

        def run(images: Tensor) -> list[Tensor]:
            with torch.no_grad():
                return list(module(images))

    return run


def shrink(images: Tensor, most: int) -> Tensor:
    """Bring images, (N, 3, H, W), to a size at which they can be judged: the
    longer side to ``most`` pixels at most, where the shorter one allows."""
    longest = max(images.shape[2:])
    if longest <= most:
        return images
    size = [max(LEAST_SIZE, round(s * most / longest))
            for s in images.shape[2:]]
    return F.interpolate(images, size, mode='bilinear', antialias=True)


def judge_noise(part: Part, gates: Gates, run: Callable,
                shapes: Sequence[tuple[int, int, int]], tolerance: float,
                generator: torch.Generator) -> list[Tally]:
    """Judge a file with noise of some shapes, until ``JUDGED`` images are or
    one is wrong.

    Raises:
        WrongExport: If too few can be judged.
    """
    tallies = [Tally(tolerance) for _ in shapes]
    while sum(tally.drawn for tally in tallies) < MOST_DRAWN:
        for tally, (batch, height, width) in zip(tallies, shapes):
            tally.look(part, gates, run,
                       torch.randn(batch, 3, height, width,
                                   generator=generator))
        judged = sum(tally.judged for tally in tallies)
        if judged >= JUDGED or any(tally.wrong for tally in tallies):
            return tallies
    raise WrongExport(
        f'of {sum(tally.drawn for tally in tallies)} images of noise {judged} '
        f'could be judged, {JUDGED} are needed: in the others a value comes '
        'so near to the threshold of an SRU that rounding decides. Name '
        'smaller shapes (--check-shapes)')


def judge_picture(part: Part, gates: Gates, run: Callable, picture: Tensor,
                  tolerance: float,
                  generator: torch.Generator) -> tuple[Tensor, Tally]:
    """Judge a file with a picture, (N, 3, H, W), made small, and the same
    with noise.

    Returns:
        tuple: The picture as it was judged, and how.

    Raises:
        WrongExport: If it cannot be judged in any size.
    """
    for size in PICTURE_SIZES:
        small, tally = shrink(picture, size), Tally(tolerance)
        for draw in range(PICTURE_DRAWS):
            tally.look(
                part, gates, run, small + bool(draw) * NOISE * torch.randn(
                    small.shape, generator=generator))
            if tally.judged >= PICTURE_JUDGED or tally.wrong:
                break
        if tally.judged:
            return small, tally
    raise WrongExport(
        'a picture could not be judged in any of '
        f'{PICTURE_DRAWS * len(PICTURE_SIZES)} draws: its values come so near '
        'to the thresholds of the SRUs that rounding decides. Name another')


def seconds_of(steps: Sequence[Callable], images: Tensor,
               rounds: int) -> list[float]:
    """Median seconds of each step, called by turns."""
    seconds = [[] for _ in steps]
    with torch.no_grad():
        for _ in range(rounds + 1):
            for step, taken in zip(steps, seconds):
                start = time.perf_counter()
                step(images)
                taken.append(time.perf_counter() - start)
    return [statistics.median(taken[1:]) for taken in seconds]


def compare_at(part: Part, run: Callable, images: Tensor,
               rounds: int) -> Comparison:
    """Time a file and the model on images of any size; judges nothing."""
    with torch.no_grad():
        found = part.differences(part.reference(images), run(images))
    return Comparison(
        tuple(images.shape),
        Difference(
            max(d.absolute for d in found), max(d.relative for d in found),
            sum(d.compared for d in found)), 0, len(images),
        *seconds_of((part.module, run), images, rounds))


def check_packages(path: str) -> None:
    """Check that a format's packages are installed.

    Raises:
        ImportError: If not; says how to install them.
    """
    if path.endswith('.onnx'):
        try:
            import onnx  # noqa: F401 (only whether it is there)
            import onnxruntime  # noqa: F401 (likewise)
            import onnxscript  # noqa: F401 (likewise)
        except ImportError as error:
            raise ImportError(
                f'{error}: ONNX needs pip install onnx onnxscript onnxruntime '
                '(mmdet-scconv[export])') from error


def noise(batch: int, height: int, width: int) -> Tensor:
    return torch.randn(batch, 3, height, width)


def check_shape(shape: Sequence[int]) -> None:
    """Raises:
        ValueError: If a shape is not batch size, height and width.
    """
    check(
        len(shape) == 3 and all(is_int(size, 1) for size in shape), 'shape',
        shape, 'batch size, height and width, each at least 1')


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
        shapes (Sequence): Batch sizes, heights and widths of noise to check
            with. Defaults to the part's.
        images (Sequence[Tensor]): Further inputs to check with, made small.
            Each image that can be judged must agree, of noise and of these.
        timed (Sequence): Shapes of noise whose difference is not judged.
        tolerance (float): The largest relative difference that is right.
        rounds (int): Timed calls of each. Defaults to 5.

    Returns:
        list: One Comparison each of ``shapes``, ``images``, ``timed``.

    Raises:
        ImportError: If a package is missing; says which.
        ValueError: For a bad argument.
        WrongExport: If the file cannot be run, its outputs differ by more,
            too few images could be judged, or there was nothing to compare;
            nothing is left of it then, and an older file is kept.
    """
    stem, suffix = osp.splitext(path)
    check(suffix in SUFFIXES, 'path', path, f'it ends in one of {SUFFIXES}')
    check(tolerance > 0, 'tolerance', tolerance, 'a number > 0')
    shapes = part.shapes if shapes is None else shapes
    check(len(shapes) + len(images), 'shapes', shapes, 'at least one')
    for shape in (*shapes, *timed):
        check_shape(shape)
    check_packages(path)
    program = trace(part.module)
    os.makedirs(osp.dirname(path) or os.curdir, exist_ok=True)
    unchecked = f'{stem}.part{suffix}'
    comparisons = []
    try:
        if suffix == '.onnx':
            write_onnx(program, unchecked, part)
        else:
            write_program(program, unchecked, part)
        with wrong_where_it_fails('the exported file cannot be loaded'):
            file = load(unchecked)

        def run(images: Tensor) -> list[Tensor]:
            with wrong_where_it_fails('the exported file cannot be run on '
                                      f'{tuple(images.shape)}'):
                return file(images)

        generator = torch.Generator().manual_seed(0)
        gates = Gates(part.gated or part.reference)
        judged = []
        if shapes:
            tallies = judge_noise(part, gates, run, shapes, tolerance,
                                  generator)
            judged += zip((noise(*shape) for shape in shapes), tallies)
        judged += (judge_picture(part, gates, run, picture, tolerance,
                                 generator) for picture in images)
        comparisons = [
            Comparison(
                tuple(inputs.shape),
                Difference(tally.absolute, tally.relative, tally.compared),
                tally.judged, tally.drawn,
                *seconds_of((part.module, run), inputs, rounds))
            for inputs, tally in judged
        ]
        wrong = sum(tally.wrong for _, tally in judged)
        if wrong:
            worst = max(tally.relative for _, tally in judged)
            raise WrongExport(
                f'in {wrong} of {sum(tally.judged for _, tally in judged)} '
                'judged images outputs of the exported file differ from '
                f'PyTorch by up to {worst:.1e} of the largest value, more '
                f'than {tolerance:.1e}: it was removed', comparisons)
        if not sum(c.difference.compared for c in comparisons):
            raise WrongExport(
                'nothing was detected in any input, so nothing could be '
                'compared: name pictures with objects (--images), or lower '
                'the score threshold', comparisons)
        comparisons += [
            compare_at(part, run, noise(*shape), rounds) for shape in timed
        ]
        os.replace(unchecked, path)
    finally:
        with suppress(FileNotFoundError):
            os.remove(unchecked)
    return comparisons
