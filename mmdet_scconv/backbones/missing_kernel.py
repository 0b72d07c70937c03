"""The line in the log that says how to get the kernel for CPUs."""
import logging
from functools import cache

from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from torch import nn

from ..layers import SCConv
from ..layers.kernels import cpu

MESSAGE = (
    'SCConv: its compiled kernels for CPUs were not found. They save a tenth '
    'to two fifths of the time. They need a C++ compiler; to compile them '
    'once: python -c "from '
    'mmdet_scconv.layers.kernels import cpu; print(cpu.build())"')


@cache
def log_once() -> None:
    print_log(MESSAGE, logger='current', level=logging.INFO)


def log_missing_kernel(module: nn.Module) -> None:
    """Log how to get the kernel if a module would use it and it is missing.

    Only once, and only in the main process. To be called when a training or
    a test starts.

    Args:
        module (nn.Module): Any that may have SCConvs.
    """
    uses_kernel = get_device() == 'cpu' and is_main_process() and any(
        isinstance(layer, SCConv) and layer.units == 'S+C'
        and layer.implementation != 'reference' for layer in module.modules())
    if uses_kernel and not cpu.is_loaded():
        log_once()
