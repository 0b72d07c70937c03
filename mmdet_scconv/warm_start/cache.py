"""A cache of fitted weights, so that a fit is done once on a machine."""
import hashlib
import io
import json
import logging
import os
import os.path as osp
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from filelock import FileLock
from mmengine.logging import print_log
from torch import Tensor

from ..atomic import write_atomically
from ..layers.kernels.cpu import cache_folder
from ..version import __version__


def cache_dir() -> str:
    """Folder of the fitted weights, in the user's cache."""
    return str(cache_folder() / 'warm_start')


def cache_key(weights: Mapping[str, Tensor], images: Tensor,
              options: Mapping) -> str:
    """A hash of all that a fit depends on: 32 hexadecimal digits.

    Args:
        weights (Mapping): State dict of the dense network.
        images (Tensor): As the network gets them.
        options (Mapping): Everything else that the result depends on, as plain
            data: settings of the network, the seed, ...

    The versions of this package and of torch are part of it, too.
    """
    digest = hashlib.sha256()

    def add(name: str, tensor: Tensor) -> None:
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f'{name} {tuple(tensor.shape)} {tensor.dtype}'.encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)

    plain = dict(options=options, package=__version__,
                 torch=str(torch.__version__))
    digest.update(json.dumps(plain, sort_keys=True, default=str).encode())
    for name in sorted(weights):
        add(name, weights[name])
    add('images', images)
    return digest.hexdigest()[:32]


def load_fitted(path: str) -> dict | None:
    """What :func:`store_fitted` wrote; None if there is no such file, or it
    is damaged."""
    if not osp.exists(path):
        return None
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except Exception:  # a damaged file can fail in any way
        return None


def store_fitted(path: str, content: dict) -> None:
    """Write tensors and plain data to a file, atomically.

    Raises:
        OSError: If it cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())


def once(key: str, compute: Callable[[], dict],
         folder: str | None = None) -> tuple[dict, bool]:
    """What ``compute`` returns, computed once for a key on this machine.

    Of several processes one computes, and the others wait for it; if it is
    killed, the next one computes. An incomplete result is not kept.

    Args:
        key (str): See :func:`cache_key`.
        compute (Callable): Returns tensors and plain data.
        folder (str | None): Defaults to :func:`cache_dir`.

    Returns:
        tuple: The content, and whether it was found.

    Where the folder cannot be written to (a full disk, say), or the user has
    none, a warning is logged and each process computes.
    """
    try:
        folder = folder or cache_dir()
        path = osp.join(folder, f'{key}.pth')
        found = load_fitted(path)
        if found is not None:
            return found, True
        os.makedirs(folder, exist_ok=True)
        lock = FileLock(f'{path}.lock')
        lock.acquire()
    except OSError as error:
        warn_not_kept(folder or 'a cache', error)
        return compute(), False
    try:
        found = load_fitted(path)  # another process was faster
        if found is not None:
            return found, True
        content = compute()
        try:
            store_fitted(path, content)
        except OSError as error:
            warn_not_kept(folder, error)
        return content, False
    finally:
        lock.release()


def warn_not_kept(folder: str, error: OSError) -> None:
    print_log(
        f'the fitted weights are not kept in {folder} ({error}): the next '
        'start fits again. $XDG_CACHE_HOME names another place', 'current',
        logging.WARNING)
