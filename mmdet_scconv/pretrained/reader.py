"""Reads checkpoint files, and runs nothing that is in them.

A pickle can call any function while it is loaded. ``torch.load`` with
``weights_only=True`` allows a short list of them. Here the list holds what the
checkpoints of torch, torchvision and MMEngine need beside tensors: numpy
arrays, and MMEngine's log. MMEngine itself loads a file a second time without
the list when the first attempt fails; the hooks of this package, and its
tools, therefore read each file here first.
"""
import os.path as osp
import pickle
import re
import shlex

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import get_torch_safe_globals
from torch import Tensor

from ..errors import CheckpointError, NoCheckpointError

# Keys under which training code keeps the weights among other things.
WRAPPERS = ('state_dict', 'model', 'model_state_dict', 'model_state',
            'module', 'net')

STATISTICS = ('min', 'max', 'mean', 'current')


AGAIN = 'Download or copy it again, or take an earlier checkpoint'

# Copies the tensors of a file that its user trusts. The model may be the whole
# file or lie under one of the keys, as a dict or as a module. The shell's
# double quotes are around it.
COPY_WEIGHTS = (
    "import sys, torch; c = torch.load(sys.argv[1], 'cpu', "
    'weights_only=False); c = c if isinstance(c, dict) else dict(model=c); '
    f'c = next((c[k] for k in {WRAPPERS} if k in c), c); '
    'c = c if isinstance(c, dict) else c.state_dict(); '
    'torch.save(dict(state_dict={k: v for k, v in c.items() '
    "if torch.is_tensor(v)}), 'weights.pth')")


class Ignored:
    """Stands in for an object that is not needed; keeps nothing of it."""

    def __init__(self, *args) -> None:
        pass

    def __new__(cls, *args) -> 'Ignored':
        return super().__new__(cls)

    def __setstate__(self, state) -> None:
        pass


def statistic_of_a_history(owner: type, name: str):
    """The one use of ``getattr`` that MMEngine's checkpoints make.

    Raises:
        CheckpointError: If it is another one.
    """
    if owner is not HistoryBuffer or name not in STATISTICS:
        raise CheckpointError(f'attribute {name!r} of {owner!r}')
    return getattr(owner, name)


def allowed_globals() -> list:
    """The names that a checkpoint may use; see
    ``torch.serialization.safe_globals``."""
    allowed = [f for f in get_torch_safe_globals() if f is not getattr]
    # numbers of any type, also as numpy 1 has written them
    allowed += [getattr(np.dtypes, name) for name in np.dtypes.__all__]
    for name in ('_reconstruct', 'scalar'):
        function = getattr(np._core.multiarray, name)
        allowed += [(function, f'numpy.{core}.multiarray.{name}')
                    for core in ('core', '_core')]
    return [
        *allowed, (statistic_of_a_history, 'builtins.getattr'),
        # torchvision's command line
        (Ignored, 'argparse.Namespace')
    ]


def read_file(path: str) -> dict:
    """The content of a checkpoint file, on the CPU.

    Args:
        path (str): A file of ``torch.save``, of MMEngine's CheckpointHook, or
            a ``.safetensors`` file.

    Raises:
        NoCheckpointError: If there is no such file.
        CheckpointError: If it is damaged, no checkpoint, or could run code.
        ImportError: If safetensors is needed and missing.
    """
    if not osp.isfile(path):
        raise NoCheckpointError(f'no such checkpoint: {path}')
    if path.endswith('.safetensors'):
        return read_safetensors(path)
    content = read_torch(path)
    if not isinstance(content, dict):
        raise CheckpointError(
            f'{path} is not a checkpoint: it is a {type(content).__name__}, a '
            'dict of tensors is needed')
    return content


def read_safetensors(path: str) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ImportError(
            f'{path}: reading .safetensors files needs the package '
            'safetensors: pip install safetensors, or install '
            'mmdet-scconv[safetensors]') from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(
            f'{path} is damaged, or not a .safetensors file '
            f'({osp.getsize(path)} bytes): {error}. {AGAIN}') from error


def read_torch(path: str) -> object:
    try:
        with torch.serialization.safe_globals(allowed_globals()):
            return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        found = re.search(r'GLOBAL (\S+)|^(attribute .*)', str(error))
        if found and isinstance(error,
                                pickle.UnpicklingError | CheckpointError):
            raise CheckpointError(
                f'{path} is not loaded, and nothing in it was run: it holds '
                f'{found[1] or found[2]}, which could run code of whoever '
                'made the file. If you trust it, copy its weights alone to '
                'weights.pth. This command runs what the file holds:\n'
                f'  python -c "{COPY_WEIGHTS}" {shlex.quote(path)}'
            ) from None
        # PyTorch's message continues with advice for its developers
        reason = str(error).partition('. ')[0] or repr(error)
        raise CheckpointError(
            f'{path} is damaged, or not a PyTorch checkpoint '
            f'({osp.getsize(path)} bytes): {reason.rstrip(".")}. {AGAIN}'
        ) from error
