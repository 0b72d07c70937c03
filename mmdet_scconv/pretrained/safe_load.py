"""Checkpoints are read as data: a file that could run code is refused.

A pickle can call any function while it is loaded. ``torch.load`` with
``weights_only=True`` allows a short list of them; MMEngine, when that
refuses a file, loads it again without the list. Hence this check, which
comes before MMEngine's.
"""
import os
import os.path as osp
import pickle
import re
import shlex

import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import get_torch_safe_globals

FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
STATISTICS = ('min', 'max', 'mean', 'current')


class CheckpointError(ValueError):
    """A checkpoint that is not loaded; says why, and what to do."""


def statistic_of_a_history(owner: type, name: str):
    """The one use of ``getattr`` that MMEngine's checkpoints make.

    Raises:
        CheckpointError: If it is another one.
    """
    if owner is not HistoryBuffer or name not in STATISTICS:
        raise CheckpointError(f'attribute {name!r} of {owner!r}')
    return getattr(owner, name)


def refuse_code() -> None:
    """Make every ``torch.load`` of this process refuse what could run code,
    also where a library asks for ``weights_only=False``. A value that the
    user has set stays."""
    os.environ.setdefault(FORCE, '1')


def load_as_data(path: str) -> dict:
    """Load a checkpoint file to the CPU, without running code from it.

    Args:
        path (str): A file of ``torch.save`` or of MMEngine's
            CheckpointHook.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is damaged, no checkpoint, or could run code.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(f'no such checkpoint: {path}')
    allowed = [f for f in get_torch_safe_globals() if f is not getattr]
    allowed.append((statistic_of_a_history, 'builtins.getattr'))
    try:
        with torch.serialization.safe_globals(allowed):
            checkpoint = torch.load(
                path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, CheckpointError) as error:
        found = re.search(r'GLOBAL (\S+)|^attribute .*', str(error))
        if found:
            raise CheckpointError(
                f'{path} is not loaded: it holds {found[1] or found[0]}, '
                'which could run code of whoever made the file. If you trust '
                'it, copy its weights alone to a new file:\n  python -c '
                '"import sys, torch; torch.save(dict(state_dict=torch.load('
                "sys.argv[1], 'cpu', weights_only=False)['state_dict']), "
                f"'weights.pth')\" {shlex.quote(path)}") from None
        raise CheckpointError(
            f'{path} is damaged, or no checkpoint') from error
    except Exception as error:  # a damaged pickle can raise anything
        raise CheckpointError(f'{path} is damaged: {error}') from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f'{path} is no checkpoint: it holds a '
                              f'{type(checkpoint).__name__}, not a dict')
    return checkpoint
