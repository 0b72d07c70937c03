"""What the command lines have in common."""
from ..errors import errors_in_one_line
from .arguments import (
    add_cfg_options,
    add_config_arguments,
    load_config,
    read_config_file,
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
    'add_cfg_options', 'add_config_arguments', 'build_runner',
    'check_checkpoint', 'check_data', 'errors_in_one_line', 'find_images',
    'hint_at_hooks', 'leaving_process_group', 'load_config', 'load_data',
    'load_weights', 'picture_names', 'read_config_file', 'set_resume',
    'tta_settings', 'use_amp'
]
