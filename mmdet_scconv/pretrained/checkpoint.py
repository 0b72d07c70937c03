"""The tensors of a checkpoint, in a file or on the web, under any key."""
from collections.abc import Mapping

from torch import Tensor

from ..errors import CheckpointError
from .download import is_url, local_file, resolve_name
from .reader import WRAPPERS, read_file

# Buffers that thop leaves in each module that it has counted.
COUNTS = ('total_ops', 'total_params')

PLAIN = (str, int, float, type(None), Mapping, list, tuple)


def unwrap(content: Mapping, path: str) -> dict[str, Tensor]:
    """The state dict in a file's content.

    Raises:
        CheckpointError: If there is none.
    """
    where = 'it'
    while isinstance(content, Mapping):
        inner = next((key for key in WRAPPERS
                      if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content, where = content[inner], f'its {inner!r}'
    if not content:
        raise CheckpointError(
            f'{path} is not a checkpoint: {where} is an empty dict, a dict of '
            'tensors is needed')
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f'{path} is not a checkpoint: in {where} {key!r} is a '
                f'{type(value).__name__}. A dict of tensors by name is '
                f'needed, or one under {", ".join(map(repr, WRAPPERS))}')
    return {key: value for key, value in content.items()
            if key.rsplit('.', 1)[-1] not in COUNTS}


def plain(value: object) -> object:
    """A value, of whose dicts only text, numbers, and lists and dicts of them
    are kept."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()
                if isinstance(key, str) and isinstance(inner, PLAIN)}
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    return value if isinstance(value, PLAIN) else None


def read_dataset_meta(checkpoint: str) -> dict:
    """The classes in a detector's checkpoint: the entries of its ``meta`` that
    MMDetection's inference reads.

    Args:
        checkpoint (str): See :func:`.download.local_file`.

    Returns:
        dict: 'dataset_meta' (``classes``, ``palette``), or 'CLASSES' of
        MMDetection 2; empty if it has none.

    Raises:
        CheckpointError: If it is not there, or cannot be read.
    """
    meta = read_file(local_file(checkpoint)).get('meta')
    return {key: plain(value) for key, value in (meta or {}).items()
            if key in ('dataset_meta', 'CLASSES')}


def read_state_dict(checkpoint: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, on the CPU.

    Where the weights lie in a training checkpoint (under ``state_dict``,
    ``model``, ...) the rest is left out, and so are the counts of thop.
    Nothing in the file is run.

    Args:
        checkpoint (str): See :func:`.download.local_file`.

    Returns:
        dict[str, Tensor]: As they are in the file, prefixes included.

    Raises:
        CheckpointError: If the file is not there, cannot be downloaded, is
            empty, truncated, no checkpoint, holds other things than tensors,
            or could run code; names the file.
        ImportError: If safetensors is needed and missing.
    """
    path = local_file(checkpoint)
    try:
        return unwrap(read_file(path), path)
    except CheckpointError as error:
        url = resolve_name(checkpoint)
        if is_url(url):
            raise CheckpointError(
                f'{error}.\nIt was downloaded from {url}: delete it to '
                'download it again') from error
        raise
