"""The formats: a traced model to a file, and a file to a function."""
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from .judge import Part
from .operators import onnx_translations

SUFFIXES = ('.onnx', '.pt2')
INPUT = 'images'
METADATA = 'mmdet_scconv.json'  # in a .pt2
# Batch size, height and width to trace with. A size of one may be computed in
# a special way, but the general way must be traced. Therefore there are two
# images, and maps of stride 64 are wider than one; height and width differ.
TRACED = (2, 192, 320)


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


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Suppress the exporter's messages about its internals."""
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
    """Name the sizes of an ONNX model's inputs and outputs (which are
    expressions of the former)."""
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
    """Write a torch.export archive, weights included. To load that of a whole
    detector, import :mod:`mmdet_scconv.deployment.operators` first."""
    torch.export.save(
        program, path, extra_files={METADATA: json.dumps(part.metadata)})


def write(program: ExportedProgram, path: str, part: Part) -> None:
    """Write a file, in the format of its suffix.

    Args:
        program (ExportedProgram): Of :func:`trace`.
        path (str): Ends with one of ``SUFFIXES``.
        part (Part): Has the names of the outputs and the metadata.
    """
    if path.endswith('.onnx'):
        write_onnx(program, path, part)
    else:
        write_program(program, path, part)


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
