"""Reads the tensors of a checkpoint file, and runs nothing that is in it."""
import hashlib
import importlib.util
import logging
import os
import os.path as osp
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlparse

import mmengine
import torch
from mmengine.dist import barrier, get_rank
from mmengine.logging import print_log
from mmengine.runner.checkpoint import (
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)
from torch import Tensor

# Keys under which training code keeps the weights among other things.
WRAPPERS = ('state_dict', 'model', 'model_state_dict', 'model_state',
            'module', 'net')

# What thop leaves in each module that it has counted.
COUNTS = ('total_ops', 'total_params')

# What MMEngine's and torchvision's training checkpoints hold beside weights
# (curves, random states, options). It is read as nothing: MMEngine's own
# loader allows these names to be called, `getattr` among them.
NOT_WEIGHTS = ('builtins.getattr', 'builtins.slice', 'argparse.Namespace',
               'mmengine.logging.history_buffer.HistoryBuffer',
               'numpy.core.multiarray._reconstruct',
               'numpy.core.multiarray.scalar',
               'numpy._core.multiarray._reconstruct',
               'numpy._core.multiarray.scalar', 'numpy.ndarray',
               'numpy.dtype')


class Ignored:
    """Stands in for an object that is not a weight, and keeps nothing."""

    def __init__(self, *args) -> None:
        pass

    def __new__(cls, *args) -> 'Ignored':
        return super().__new__(cls)

    def __setstate__(self, state) -> None:
        pass


def torchvision_models() -> dict[str, str]:
    """URLs by name; MMEngine's own table where torchvision is missing."""
    if importlib.util.find_spec('torchvision'):
        return get_torchvision_models()
    return mmengine.load(
        osp.join(mmengine.__path__[0], 'hub', 'torchvision_0.12.json'))


TORCHVISION = 'torchvision://'
NAMED = {
    TORCHVISION: torchvision_models,
    'open-mmlab://': get_external_models,
    'openmmlab://': get_external_models,
    'mmcls://': get_mmcls_models,
}


def resolve_name(checkpoint: str) -> str:
    """The URL behind ``torchvision://NAME``, ``open-mmlab://NAME`` or
    ``mmcls://NAME``; anything else stays as it is. torchvision is not needed.

    Raises:
        ValueError: If there is no such name.
    """
    scheme = checkpoint[:checkpoint.find('://') + 3]
    if scheme not in NAMED:
        return checkpoint
    urls = NAMED[scheme]()
    name = checkpoint[len(scheme):]
    name = get_deprecated_model_names().get(name, name)
    if name not in urls:
        resnets = sorted(scheme + key for key in urls if 'resn' in key)
        raise ValueError(
            f'checkpoint={checkpoint!r} is not a known name; the known '
            f'ResNets are {", ".join(resnets)}')
    return urls[name]


def is_url(checkpoint: str) -> bool:
    """Whether it is a web address."""
    return checkpoint.startswith(('http://', 'https://'))


def is_known(checkpoint: str) -> bool:
    """Whether it is a file, a web address or a name of a known scheme."""
    return ('://' not in checkpoint or is_url(checkpoint)
            or checkpoint.startswith(tuple(NAMED)))


def cached_file(url: str) -> str:
    """Where the download of ``url`` is kept: in torch's cache, under a name
    that no other address has, in pooch's way."""
    digest = hashlib.md5(url.encode(), usedforsecurity=False).hexdigest()
    folder, name = osp.split(named_file(url))
    return osp.join(folder, f'{digest}-{name}')


def named_file(url: str) -> str:
    """Where torch itself keeps it, and users may put it: under the last part
    of the address, which others may share."""
    return osp.join(torch.hub.get_dir(), 'checkpoints',
                    osp.basename(urlparse(url).path))


def sha256_of(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def is_named_by_its_sum(path: str) -> bool:
    """Whether a file's name holds the start of its SHA-256, as those of
    torchvision and OpenMMLab do (``resnet50-0676ba61.pth``): then it is what
    the name says, wherever it is from."""
    start = re.search(r'-([0-9a-f]{8,64})\.[a-z]+$', path)
    if not start:
        return False
    return sha256_of(path).startswith(start[1])


def download(url: str) -> str:
    """Download ``url`` to torch's cache, unless it is there.

    A file that has the last part of the address as its name is taken if its
    sum says that it is the one, or if nothing can be downloaded; the log then
    says so. In a distributed run the first process downloads for those that
    share its cache.

    Raises:
        FileNotFoundError: If it cannot be had; says which file to put where.
    """
    path, named = cached_file(url), named_file(url)
    if get_rank() != 0:
        barrier()
    if not osp.exists(path):
        if osp.exists(named) and is_named_by_its_sum(named):
            path = named
        else:
            os.makedirs(osp.dirname(path), exist_ok=True)
            try:
                torch.hub.download_url_to_file(
                    url, path, progress=os.isatty(0))
            except OSError as error:
                if not osp.exists(named):
                    raise FileNotFoundError(
                        f'cannot be downloaded ({error}).\nOn a machine '
                        f'without network: download\n  {url}\nelsewhere and '
                        f'put it here as\n  {named}') from error
                print_log(
                    f'{url} cannot be downloaded ({error}): {named} is used, '
                    'which has its name', 'current', logging.WARNING)
                path = named
    if get_rank() == 0:
        barrier()
    return path


def local_file(checkpoint: str) -> str:
    """The file of a checkpoint on this machine, downloaded where needed.

    Args:
        checkpoint (str): A file, a web address, or ``torchvision://NAME``,
            ``open-mmlab://NAME``, ``mmcls://NAME``.

    Raises:
        FileNotFoundError: If it does not exist or cannot be downloaded.
        ValueError: For an unknown name or scheme.
    """
    if not is_known(checkpoint):
        raise ValueError(
            f'checkpoint={checkpoint!r} is not valid: a file, a web address '
            f'(https://) or a name ({", ".join(NAMED)}) is allowed')
    checkpoint = resolve_name(checkpoint)
    if is_url(checkpoint):
        return download(checkpoint)
    path = osp.expanduser(checkpoint)
    if not osp.isfile(path):
        raise FileNotFoundError(
            f'checkpoint={checkpoint!r} does not exist: no such file')
    return path


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
        raise ValueError(
            f'{path} is not a complete .safetensors file '
            f'({osp.getsize(path)} bytes): {error}') from error


def read_torch(path: str) -> object:
    ignored = [(Ignored, name) for name in NOT_WEIGHTS]
    try:
        with torch.serialization.safe_globals(ignored):
            return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged file can fail in any way
        wanted = re.search(r'GLOBAL (\S+)', str(error))
        if wanted:
            raise ValueError(
                f'{path} was refused and nothing in it was run: it asks for '
                f'{wanted[1]}, which weights do not need. If you trust who '
                'wrote it, load it there, and save its state_dict() alone'
            ) from error
        with open(path, 'rb') as file:
            start = file.read(24)
        raise ValueError(
            f'{path} is not a complete PyTorch checkpoint '
            f'({osp.getsize(path)} bytes, starts with {start!r}): '
            f'{str(error).splitlines()[0] if str(error) else error!r}'
        ) from error


def unwrap(content: object, path: str) -> dict[str, Tensor]:
    """The state dict inside what a file held.

    Raises:
        ValueError: If there is none.
    """
    where = 'it'
    while isinstance(content, Mapping):
        inner = next((key for key in WRAPPERS
                      if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content, where = content[inner], f'its {inner!r}'
    if not isinstance(content, Mapping) or not content:
        what = 'an empty' if content == {} else 'a'
        raise ValueError(
            f'{path} is not a checkpoint: {where} is {what} '
            f'{type(content).__name__}, a dict of tensors is needed')
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ValueError(
                f'{path} is not a checkpoint: in {where} {key!r} is a '
                f'{type(value).__name__}. A dict of tensors by name is '
                f'needed, or one under {", ".join(map(repr, WRAPPERS))}')
    return {key: value for key, value in content.items()
            if key.rsplit('.', 1)[-1] not in COUNTS}


def plain(value: object) -> object:
    """What of a value is text, numbers, and lists and dicts of them."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()
                if isinstance(key, str) and not isinstance(inner, Ignored)}
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    return value if isinstance(value, str | int | float) else None


def read_dataset_meta(checkpoint: str) -> dict:
    """What a detector's checkpoint says about its classes: the entries of
    its ``meta`` that MMDetection's inference asks for.

    Args:
        checkpoint (str): See :func:`local_file`.

    Returns:
        dict: 'dataset_meta' (``classes``, ``palette``), or 'CLASSES' of
        MMDetection 2; empty where it says nothing.

    Raises:
        FileNotFoundError: If it does not exist or cannot be downloaded.
        ValueError: If it cannot be read.
    """
    path = local_file(checkpoint)
    content = {} if path.endswith('.safetensors') else read_torch(path)
    meta = content.get('meta') if isinstance(content, Mapping) else None
    return {key: plain(value) for key, value in (meta or {}).items()
            if key in ('dataset_meta', 'CLASSES')}


def read_state_dict(checkpoint: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, on the CPU.

    ``.safetensors`` files are read with Hugging Face's library, anything else
    with ``torch.load(weights_only=True)``. Where the weights lie in a
    training checkpoint (under ``state_dict``, ``model``, ...) the rest is
    left out, and so are the counts of thop. Nothing in the file is run.

    Args:
        checkpoint (str): See :func:`local_file`.

    Returns:
        dict[str, Tensor]: As they are in the file, prefixes included.

    Raises:
        FileNotFoundError: If it does not exist or cannot be downloaded.
        ImportError: If safetensors is needed and missing.
        ValueError: If the file is empty, truncated, no checkpoint, holds
            other things than tensors, or wants to run code; names the file.
    """
    path = local_file(checkpoint)
    read = read_safetensors if path.endswith('.safetensors') else read_torch
    try:
        return unwrap(read(path), path)
    except ValueError as error:
        url = resolve_name(checkpoint)
        if is_url(url):
            raise ValueError(f'{error}.\nIt was downloaded from {url}: delete '
                             'it to download it again') from error
        raise
