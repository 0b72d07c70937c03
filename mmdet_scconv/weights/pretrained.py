"""Makes sure, before loading, that pretrained weights can be had."""
import importlib.util
import os.path as osp
from urllib.parse import urlparse

import mmengine
import torch
from mmengine.model import BaseModule, PretrainedInit
from mmengine.runner import CheckpointLoader

TORCHVISION = 'torchvision://'


def resolve_torchvision(checkpoint: str) -> str:
    """The URL behind ``torchvision://NAME`` where torchvision is missing.

    MMEngine imports torchvision to look the URL up; without it the same
    table (``mmengine/hub/torchvision_0.12.json``) is read directly.

    Raises:
        ValueError: If the table has no such name.
    """
    if not checkpoint.startswith(TORCHVISION) or \
            importlib.util.find_spec('torchvision'):
        return checkpoint
    urls = mmengine.load(
        osp.join(mmengine.__path__[0], 'hub', 'torchvision_0.12.json'))
    name = checkpoint[len(TORCHVISION):]
    if name not in urls:
        resnets = sorted(key for key in urls if key.startswith('resn'))
        raise ValueError(
            f'checkpoint={checkpoint!r} is not valid: without torchvision the '
            f'known ResNets are {", ".join(TORCHVISION + r for r in resnets)}')
    return urls[name]


def cached_file(url: str) -> str:
    """Where torch keeps, and looks for, the download of ``url``."""
    return osp.join(torch.hub.get_dir(), 'checkpoints',
                    osp.basename(urlparse(url).path))


def prepare_pretrained(module: BaseModule) -> None:
    """Check that the ``Pretrained`` checkpoints of a module can be loaded.

    ``torchvision://`` names become URLs where torchvision is missing, and
    URLs are downloaded to torch's cache.

    Raises:
        FileNotFoundError: If a file does not exist, or a URL cannot be
            downloaded; says which file to put where.
    """
    init_cfgs = module.init_cfg or []
    if isinstance(init_cfgs, dict):
        init_cfgs = [init_cfgs]
    for cfg in init_cfgs:
        if cfg['type'] not in ('Pretrained', PretrainedInit):
            continue
        checkpoint = resolve_torchvision(cfg['checkpoint'])
        cfg['checkpoint'] = checkpoint
        if checkpoint.startswith(('http://', 'https://')):
            try:
                CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
            except OSError as error:
                raise FileNotFoundError(
                    f'The pretrained weights of {type(module).__name__} '
                    f'cannot be downloaded ({error}).\nOn a machine without '
                    f'network: download\n  {checkpoint}\nelsewhere and put it '
                    f'here as\n  {cached_file(checkpoint)}\nor name a file '
                    'that you have, e.g. --cfg-options '
                    'model.backbone.init_cfg.checkpoint=FILE') from error
        elif '://' not in checkpoint and not osp.isfile(
                osp.expanduser(checkpoint)):
            raise FileNotFoundError(
                f'The pretrained weights of {type(module).__name__}, '
                f'checkpoint={checkpoint!r}, do not exist: no such file')
