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
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..layers.common import check, is_int

SUFFIXES = ('.onnx', '.pt2')
INPUT = 'images'
METADATA = 'mmdet_scconv.json'  # in a .pt2
# Images to trace with. Two: where a batch of one is computed in another way,
# it is the general way that is traced; uneven: no dimension equals another.
TRACED = (2, 64, 96)
CHECKED = ((1, 64, 96), (2, 160, 128), (3, 97, 131))
TOLERANCE = 1e-3


class WrongExport(Exception):
    """A file that does not do what the model does; it was removed.

    Args:
        message (str): What is wrong.
        comparisons (list): As :func:`export` would have returned.
    """

    def __init__(self, message: str, comparisons: 'list[Comparison]') -> None:
        super().__init__(message)
        self.comparisons = comparisons


@dataclass(frozen=True)
class Difference:
    """Of outputs that should be equal.

    ``absolute``: the largest one; ``relative``: the largest one relative to
    the largest value of its output.
    """

    absolute: float
    relative: float


def largest_difference(expected: Sequence[Tensor],
                       found: Sequence[Tensor]) -> Difference:
    """Compare outputs value by value; infinite where shapes differ, or where
    one has a NaN or an infinity and the other has not."""
    absolute, relative = 0., 0.
    if len(expected) != len(found):
        return Difference(float('inf'), float('inf'))
    for one, other in zip(expected, found):
        if one.shape != other.shape:
            return Difference(float('inf'), float('inf'))
        distance = (one.double() - other.double()).abs()
        distance[one == other] = 0  # also of equal infinities
        distance = distance.nan_to_num(nan=float('inf')).amax().item()
        absolute = max(absolute, distance)
        scale = one[one.isfinite()].abs().max().item() if distance else 1.
        relative = max(relative, distance / scale if scale else float('inf'))
    return Difference(absolute, relative)


@dataclass(frozen=True)
class Part:
    """What is exported.

    Args:
        module (nn.Module): From images, (N, 3, H, W), to a tuple of tensors.
        reference (nn.Module): What its file must agree with, called alike.
        outputs (tuple): Names of the tensors.
        metadata (dict): What a user of the file must know, e.g. mean and std
            of the images; is written into it.
        difference (Callable): Of the reference's outputs and a file's.
    """

    module: nn.Module
    reference: nn.Module
    outputs: tuple[str, ...]
    metadata: dict[str, str] = field(default_factory=dict)
    difference: Callable[[Sequence[Tensor], Sequence[Tensor]],
                         Difference] = largest_difference


@dataclass(frozen=True)
class Comparison:
    """A file beside PyTorch on one input.

    ``shape``: (N, 3, H, W); seconds are medians of one call each:
    ``torch_seconds`` of the exported module in eager PyTorch.
    """

    shape: tuple[int, ...]
    difference: Difference
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


def write_onnx(program: ExportedProgram, path: str, part: Part,
               translations: dict | None = None) -> None:
    """Write an ONNX file, weights included.

    Args:
        translations (dict): Of torch operators that the exporter does not
            know to functions of onnxscript.
    """
    with quiet_exporter():
        onnx = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[INPUT],
            output_names=list(part.outputs),
            custom_translation_table=translations,
            verbose=False)
    name_sizes(onnx.model)
    onnx.model.metadata_props.update(part.metadata)
    onnx.save(path, external_data=False)


def write_program(program: ExportedProgram, path: str, part: Part) -> None:
    """Write a torch.export archive, weights included."""
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


def compare(part: Part,
            run: Callable[[Tensor], list[Tensor]],
            images: Tensor,
            rounds: int = 5) -> Comparison:
    """Run a file and the model on the same images, by turns.

    Args:
        part (Part): Whose file it is.
        run (Callable): The file, from :func:`load`.
        images (Tensor): (N, 3, H, W).
        rounds (int): Timed calls of each. Defaults to 5.
    """
    with torch.no_grad():
        expected = list(part.reference(images))
        difference = part.difference(expected, run(images))
        part.module(images)
        seconds = [[], []]
        for _ in range(rounds):
            for step, taken in zip((part.module, run), seconds):
                start = time.perf_counter()
                step(images)
                taken.append(time.perf_counter() - start)
    return Comparison(
        tuple(images.shape), difference, *map(statistics.median, seconds))


def check_packages(path: str) -> None:
    """Check that a format's packages are installed.

    Raises:
        ImportError: If not; says how to install them.
    """
    if path.endswith('.onnx'):
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise ImportError(
                f'{error}: ONNX needs onnx, onnxscript and onnxruntime: pip '
                'install "mmdet-scconv[export]"') from error


def check_shape(name: str, shape: Sequence[int]) -> None:
    """Raises:
        ValueError: If a shape is not batch size, height and width.
    """
    check(
        len(shape) == 3 and all(is_int(size, 1) for size in shape), name,
        shape, 'batch size, height and width, each at least 1')


def export(part: Part,
           path: str,
           shapes: Sequence[tuple[int, int, int]] = CHECKED,
           images: Sequence[Tensor] = (),
           tolerance: float = TOLERANCE,
           rounds: int = 5) -> list[Comparison]:
    """Write a file and check it against PyTorch.

    Args:
        part (Part): What to export.
        path (str): Ends in .onnx or .pt2; an older file is replaced when the
            new one is right.
        shapes (Sequence): Batch sizes, heights and widths of noise to check
            with.
        images (Sequence[Tensor]): Further inputs to check with.
        tolerance (float): The largest relative difference that is right.
        rounds (int): Timed calls of each. Defaults to 5.

    Returns:
        list: One Comparison a shape and image.

    Raises:
        ImportError: If a package is missing; says which.
        ValueError: For a bad argument.
        WrongExport: If the file cannot be run or its outputs differ by more;
            nothing is left of it then, and an older file is kept.
    """
    stem, suffix = osp.splitext(path)
    check(suffix in SUFFIXES, 'path', path, f'it ends in {SUFFIXES}')
    check(tolerance > 0, 'tolerance', tolerance, 'a number > 0')
    check(len(shapes) + len(images), 'shapes', shapes, 'at least one')
    for shape in shapes:
        check_shape('shapes', shape)
    check_packages(path)
    os.makedirs(osp.dirname(path) or os.curdir, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(batch, 3, height, width, generator=generator)
        for batch, height, width in shapes
    ]
    program = trace(part.module)
    unchecked = f'{stem}.part{suffix}'
    try:
        if suffix == '.onnx':
            write_onnx(program, unchecked, part)
        else:
            write_program(program, unchecked, part)
        comparisons = check_file(unchecked, part, [*inputs, *images], rounds)
        worst = max(c.difference.relative for c in comparisons)
        if not worst <= tolerance:
            raise WrongExport(
                f'outputs of the exported file differ from PyTorch by {worst:'
                f'.1e} of the largest value, more than {tolerance:.1e}: it '
                'was removed', comparisons)
        os.replace(unchecked, path)
    finally:
        with suppress(FileNotFoundError):
            os.remove(unchecked)
    return comparisons


def check_file(path: str, part: Part, inputs: Sequence[Tensor],
               rounds: int) -> list[Comparison]:
    """:func:`compare` a file on all inputs.

    Raises:
        WrongExport: If it cannot be run on one of them.
    """
    run = load(path)
    comparisons = []
    for images in inputs:
        try:
            run(images)
        except Exception as error:
            raise WrongExport(
                f'the exported file cannot be run on {tuple(images.shape)}: '
                f'{error}', comparisons) from error
        comparisons.append(compare(part, run, images, rounds))
    return comparisons
