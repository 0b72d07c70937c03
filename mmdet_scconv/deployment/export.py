"""Export a part of a model to ONNX or torch.export, and check the file.

The file takes any batch size, height and width. It gets its name when it has
been run and its outputs agree with PyTorch's; an export that does not is no
file.
"""
import json
import logging
import math
import os
import os.path as osp
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from operator import attrgetter

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..layers.common import check, is_int
from .operators import onnx_translations

SUFFIXES = ('.onnx', '.pt2')
INPUT = 'images'
METADATA = 'mmdet_scconv.json'  # in a .pt2
# Images to trace with: where a size of one is computed in another way, it is
# the general way that is traced. So there are two, and maps of stride 64 are
# wider than one; height and width differ.
TRACED = (2, 192, 320)
# Small ones, see compare(); odd ones, and a batch of one. A .pt2 cannot be run
# where a map that was wider is one pixel wide.
CHECKED = ((1, 64, 96), (2, 33, 47), (3, 65, 50))
DETECTOR_CHECKED = ((1, 96, 128), (2, 65, 83), (3, 97, 70))
TOLERANCE = 1e-3
# see compare()
DRAWS = 20
NOISE = 0.01
JUDGED_SIZES = 66, 160


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
class Difference:
    """Of outputs that should be equal.

    ``absolute``: the largest one; ``relative``: the largest one relative to
    the largest value of its output. ``compared``: how many values, or
    detections.
    """

    absolute: float
    relative: float
    compared: int


def image_difference(expected: Sequence[Tensor],
                     found: Sequence[Tensor]) -> Difference:
    """Compare the outputs of one image value by value; infinite where
    shapes differ, or where one has a NaN and the other has not."""
    absolute, relative, compared = 0., 0., 0
    for one, other in zip(expected, found):
        if one.shape != other.shape:
            return Difference(math.inf, math.inf, 0)
        distance = (one.double() - other.double()).abs()
        distance[one == other] = 0  # also of equal infinities
        distance[distance.isnan()] = math.inf
        largest = distance.max().item()
        if largest:
            scale = one.abs().max().item()
            absolute = max(absolute, largest)
            relative = max(relative, largest / scale
                           if scale and math.isfinite(largest) else math.inf)
        compared += one.numel()
    return Difference(absolute, relative, compared)


def differences(expected: Sequence[Tensor],
                found: Sequence[Tensor]) -> list[Difference]:
    """:func:`image_difference` of each image of a batch."""
    return [
        image_difference(*outputs)
        for outputs in zip(zip(*expected), zip(*found))
    ]


@dataclass(frozen=True)
class Part:
    """What is exported.

    Args:
        module (nn.Module): From images, (N, 3, H, W), to a tuple of tensors.
        reference (nn.Module): What its file must agree with, called alike.
        outputs (tuple): Names of the tensors.
        metadata (dict): What a user of the file must know, e.g. mean and std
            of the images; is written into it.
        differences (Callable): Of the reference's outputs and a file's, for
            each image of a batch.
        shapes (tuple): Batch sizes, heights and widths to check with.
    """

    module: nn.Module
    reference: nn.Module
    outputs: tuple[str, ...]
    metadata: dict[str, str] = field(default_factory=dict)
    differences: Callable[[Sequence[Tensor], Sequence[Tensor]],
                          list[Difference]] = differences
    shapes: tuple[tuple[int, int, int], ...] = CHECKED


@dataclass(frozen=True)
class Comparison:
    """A file beside PyTorch on one input.

    ``shape``: (N, 3, H, W). ``difference``: the largest of all images, each
    in its best draw; ``draws``: how many were needed. Seconds are medians of
    one call each: ``torch_seconds`` of the exported module in eager PyTorch.
    """

    shape: tuple[int, ...]
    difference: Difference
    draws: int
    torch_seconds: float
    file_seconds: float


relative = attrgetter('relative')


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


def shrink(images: Tensor) -> Tensor:
    """Bring images, (N, 3, H, W), to a size at which they can be judged (see
    :func:`compare`): the longer side to 160 pixels at most."""
    least, most = JUDGED_SIZES
    longest = max(images.shape[2:])
    if longest <= most:
        return images
    size = [max(least, round(s * most / longest)) for s in images.shape[2:]]
    return F.interpolate(images, size, mode='bilinear', antialias=True)


def compare(part: Part,
            run: Callable[[Tensor], list[Tensor]],
            images: Tensor,
            tolerance: float = math.inf,
            rounds: int = 5) -> Comparison:
    """Run a file and the model on the same images, by turns.

    An SRU compares each value with a threshold. Where rounding brings one to
    the other side, all that follows from it differs, in whatever has been
    rounded otherwise: PyTorch in float32 from PyTorch in float64, too. So
    images whose outputs differ are drawn again, with a little noise on them:
    what is wrong differs in each draw.

    Args:
        part (Part): Whose file it is.
        run (Callable): The file, from :func:`load`.
        images (Tensor): (N, 3, H, W).
        tolerance (float): Images whose relative difference is larger are
            drawn again, up to ``DRAWS`` draws.
        rounds (int): Timed calls of each. Defaults to 5.
    """
    generator = torch.Generator().manual_seed(0)
    best = None
    with torch.no_grad():
        for draw in range(1, DRAWS + 1):
            drawn = images if draw == 1 else images + NOISE * torch.randn(
                images.shape, generator=generator)
            found = part.differences(part.reference(drawn), run(drawn))
            best = [
                min(pair, key=relative) for pair in zip(best or found, found)
            ]
            if max(map(relative, best)) <= tolerance:
                break
        seconds = [[], []]
        for _ in range(rounds + 1):
            for step, taken in zip((part.module, run), seconds):
                start = time.perf_counter()
                step(images)
                taken.append(time.perf_counter() - start)
    return Comparison(
        tuple(images.shape),
        Difference(
            max(d.absolute for d in best), max(map(relative, best)),
            sum(d.compared for d in best)), draw,
        *(statistics.median(taken[1:]) for taken in seconds))


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
        timed (Sequence): Shapes of noise whose difference is not judged.
        tolerance (float): The largest relative difference that is right.
        rounds (int): Timed calls of each. Defaults to 5.

    Returns:
        list: One Comparison each of ``shapes``, ``images``, ``timed``.

    Raises:
        ImportError: If a package is missing; says which.
        ValueError: For a bad argument.
        WrongExport: If the file cannot be run, its outputs differ by more, or
            there was nothing to compare; nothing is left of it then, and an
            older file is kept.
    """
    stem, suffix = osp.splitext(path)
    check(suffix in SUFFIXES, 'path', path, f'it ends in one of {SUFFIXES}')
    check(tolerance > 0, 'tolerance', tolerance, 'a number > 0')
    shapes = part.shapes if shapes is None else shapes
    check(len(shapes) + len(images), 'shapes', shapes, 'at least one')
    for shape in (*shapes, *timed):
        check_shape(shape)
    check_packages(path)
    generator = torch.Generator().manual_seed(0)

    def noise(batch: int, height: int, width: int) -> Tensor:
        return torch.randn(batch, 3, height, width, generator=generator)

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

        for inputs in (*(noise(*shape) for shape in shapes),
                       *map(shrink, images)):
            comparisons.append(
                compare(part, run, inputs, tolerance, rounds))
        worst = max(c.difference.relative for c in comparisons)
        if worst > tolerance:
            raise WrongExport(
                'outputs of the exported file differ from PyTorch by '
                f'{worst:.1e} of the largest value, more than {tolerance:.1e}'
                ': it was removed', comparisons)
        if not sum(c.difference.compared for c in comparisons):
            raise WrongExport(
                'nothing was detected in any input, so nothing could be '
                'compared: name pictures with objects (--images), or lower '
                'the score threshold', comparisons)
        comparisons += [
            compare(part, run, noise(*shape), rounds=rounds)
            for shape in timed
        ]
        os.replace(unchecked, path)
    finally:
        with suppress(FileNotFoundError):
            os.remove(unchecked)
    return comparisons
