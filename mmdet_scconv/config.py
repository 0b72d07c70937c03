"""Reads config files."""
import os
import os.path as osp

from mmengine.config import Config
from mmengine.registry import init_default_scope

from .errors import UserError


def read_config_file(path: str, options: dict | None = None) -> Config:
    """Read a config, and import what its ``custom_imports`` names.

    Args:
        path (str): The file.
        options (dict): Settings that override the config's.

    Raises:
        UserError: If it cannot be read.
    """
    if not osp.isfile(path):
        raise UserError(f'no such config: {path} (looked for in '
                        f'{os.getcwd()})')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is Python, and raises anything
        if isinstance(error, UnboundLocalError) and error.__context__:
            # raised by mmengine, where it could not write a temporary file
            error = error.__context__
        raise UserError(f'the config {path} cannot be read: '
                        f'{type(error).__name__}: {error}') from error
    if options is not None:
        cfg.merge_from_dict(options)
    return cfg


def read_config(path: str, options: dict | None = None) -> Config:
    """As :func:`read_config_file`; also sets the default scope of the
    registries, so that parts of the config can be built without a runner."""
    cfg = read_config_file(path, options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    return cfg
