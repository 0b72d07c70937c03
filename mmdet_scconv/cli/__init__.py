"""The common parts of the command lines."""
from ..errors import errors_in_one_line
from .arguments import (
    add_cfg_options,
    add_config_arguments,
    at_least,
    load_config,
    new_parser,
)
from .pictures import find_images, picture_names
from .processes import leaving_process_group
from .start import (
    build_runner,
    check_checkpoint,
    check_data,
    hint_at_hooks,
    load_data,
    load_weights,
    set_resume,
    tta_settings,
    use_amp,
)

__all__ = [
    'add_cfg_options', 'add_config_arguments', 'at_least', 'build_runner',
    'check_checkpoint', 'check_data', 'errors_in_one_line', 'find_images',
    'hint_at_hooks', 'leaving_process_group', 'load_config', 'load_data',
    'load_weights', 'new_parser', 'picture_names', 'set_resume',
    'tta_settings', 'use_amp'
]
