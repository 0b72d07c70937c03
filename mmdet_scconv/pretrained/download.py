"""The file behind the name of a checkpoint, downloaded where needed."""
import importlib.util
import logging
import os
import os.path as osp
import re
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

from ..errors import CheckpointError, NoCheckpointError


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
        CheckpointError: If there is no such name.
    """
    scheme = checkpoint[:checkpoint.find('://') + 3]
    if scheme not in NAMED:
        return checkpoint
    urls = NAMED[scheme]()
    name = checkpoint[len(scheme):]
    name = get_deprecated_model_names().get(name, name)
    if name not in urls:
        resnets = sorted(scheme + key for key in urls if 'resn' in key)
        raise CheckpointError(
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


def cache_folder() -> str:
    """Torch's cache, where users may put files, too."""
    return osp.join(torch.hub.get_dir(), 'checkpoints')


def cached_file(url: str) -> str:
    """Where the download of ``url`` is kept: under a name that no other
    address has."""
    from pooch.utils import unique_file_name
    return osp.join(cache_folder(), unique_file_name(url))


def named_file(url: str) -> str:
    """Where torch keeps it, and users may put it: under the last part of the
    address, which another address may have, too."""
    return osp.join(cache_folder(), osp.basename(urlparse(url).path))


def sha256_of(path: str) -> str:
    from pooch import file_hash
    return file_hash(path)


def is_named_by_its_hash(path: str) -> bool:
    """Whether a file's name holds the start of its SHA-256, as those of
    torchvision and OpenMMLab do (``resnet50-0676ba61.pth``): then its content
    is known to be right."""
    start = re.search(r'-([0-9a-f]{8,64})\.[a-z]+$', path)
    return bool(start) and sha256_of(path).startswith(start[1])


def fetch(url: str) -> str:
    """Download a file; it gets its name in the cache when it is complete.

    Raises:
        OSError: If that fails.
    """
    import pooch  # it imports requests, so it is imported only when needed
    print_log(f'Downloading {url} to {cache_folder()}', 'current')
    # it would advise to write the file's hash into the code
    pooch.get_logger().setLevel(logging.WARNING)
    return pooch.retrieve(url, known_hash=None, path=cache_folder(),
                          progressbar=os.isatty(2))


def download(url: str) -> str:
    """Download ``url`` to torch's cache, unless it is there.

    A file whose name is the last part of the address is used if its hash is
    right, or, with a warning, if nothing can be downloaded. In a distributed
    run the first process downloads for those that share its cache.

    Raises:
        NoCheckpointError: If it cannot be downloaded; says which file to put
            where.
    """
    path, named = cached_file(url), named_file(url)
    if get_rank() != 0:
        barrier()
    try:
        if osp.exists(path):
            return path
        if osp.exists(named) and is_named_by_its_hash(named):
            return named
        try:
            return fetch(url)
        except OSError as error:
            if not osp.exists(named):
                raise NoCheckpointError(
                    f'cannot be downloaded ({error}).\nOn a machine without '
                    f'network: download\n  {url}\nelsewhere and put it here '
                    f'as\n  {named}') from error
            print_log(
                f'{url} cannot be downloaded ({error}): {named} is used, '
                'which has its name', 'current', logging.WARNING)
            return named
    finally:
        if get_rank() == 0:
            barrier()


def local_file(checkpoint: str) -> str:
    """The file of a checkpoint on this machine, downloaded where needed.

    Args:
        checkpoint (str): A file, a web address, or ``torchvision://NAME``,
            ``open-mmlab://NAME``, ``mmcls://NAME``.

    Raises:
        NoCheckpointError: If it does not exist or cannot be downloaded.
        CheckpointError: For an unknown name or scheme.
    """
    if not is_known(checkpoint):
        raise CheckpointError(
            f'checkpoint={checkpoint!r} is not valid: a file, a web address '
            f'(https://) or a name ({", ".join(NAMED)}) is allowed')
    checkpoint = resolve_name(checkpoint)
    if is_url(checkpoint):
        return download(checkpoint)
    path = osp.expanduser(checkpoint)
    if not osp.isfile(path):
        raise NoCheckpointError(
            f'checkpoint={checkpoint!r} does not exist: no such file')
    return path
