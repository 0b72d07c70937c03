"""Makes predictions on a test data set without a runner; reads and writes
them.

Predictions are what ``tools/test.py --out FILE.pkl`` dumps: a list with a
dict for each image, of which these keys are read: ``img_id`` and
``pred_instances`` (``bboxes`` (n, 4), x1, y1, x2, y2 in pixels of the
original image; ``scores`` (n, ); ``labels`` (n, )).
"""
import io
import pickle  # noqa: S403 (no more than tensors are unpickled, see below)
from collections.abc import Callable

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

from ..atomic import write_atomically
from ..datasets.checked import with_checked_types
from .models import inference_copy

# the functions that build tensors and arrays, in several releases of numpy
TENSOR_PARTS = {
    ('_codecs', 'encode'),  # bytes in MMEngine's pickle protocol
    ('collections', 'OrderedDict'),
    ('torch._utils', '_rebuild_tensor_v2'),
    ('torch.storage', '_load_from_bytes'),
    ('numpy', 'dtype'),
    ('numpy', 'ndarray'),
    *((module, name) for module in ('numpy.core.multiarray',
                                    'numpy._core.multiarray')
      for name in ('_reconstruct', 'scalar')),
}


class TensorUnpickler(pickle.Unpickler):  # noqa: S301
    """Unpickles plain values, tensors and arrays, and calls nothing else."""

    def find_class(self, module: str, name: str):
        if (module, name) not in TENSOR_PARTS:
            raise pickle.UnpicklingError(f'{module}.{name}')
        if name == '_load_from_bytes':
            return lambda data: torch.load(
                io.BytesIO(data), map_location='cpu', weights_only=True)
        return super().find_class(module, name)


def read_predictions(path: str) -> list[dict]:
    """Read a dump of ``tools/test.py --out``; runs no code from it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or holds anything but predictions.
    """
    with open(path, 'rb') as f:
        try:
            predictions = TensorUnpickler(f).load()
        # a damaged or malicious file can raise anything
        except Exception as error:
            raise ValueError(f'{path} cannot be read as predictions of '
                             f'tools/test.py --out: {error}') from error
    if not isinstance(predictions, list) or not predictions or not all(
            isinstance(p, dict) and 'img_id' in p and 'pred_instances' in p
            for p in predictions):
        raise ValueError(f'{path} holds no predictions of tools/test.py '
                         "--out: a list of dicts with 'img_id' and "
                         "'pred_instances'")
    return predictions


def write_predictions(path: str, predictions: list[dict]) -> None:
    write_atomically(path, pickle.dumps(predictions))


def build_dataset(cfg: Config):
    """The data set that a config tests on.

    Raises:
        FileNotFoundError: If its annotations are not there.
        DataError: If they are refused.
    """
    return DATASETS.build(with_checked_types(cfg.test_dataloader.dataset))


def predict(model: nn.Module, cfg: Config, dataset,
            track: Callable = iter) -> list[dict]:
    """Run a model over a test data set.

    Args:
        track (Callable): Wraps the batches, to show progress.

    Returns:
        list: What ``tools/test.py --out`` dumps.
    """
    model = inference_copy(model)
    loader = Runner.build_dataloader(
        dict(cfg.test_dataloader, dataset=dataset))
    predictions = []
    with torch.no_grad():
        for data in track(loader):
            for sample in model.test_step(data):
                instances = sample.pred_instances
                predictions.append(
                    dict(
                        img_id=sample.img_id,
                        img_path=sample.img_path,
                        ori_shape=tuple(sample.ori_shape),
                        pred_instances={
                            key: instances[key].cpu()
                            for key in ('bboxes', 'scores', 'labels')
                        }))
    return predictions
