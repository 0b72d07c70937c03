"""Memory of large maps on CPUs."""
import ctypes
from contextlib import suppress

# of glibc's mallopt, see man mallopt
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Let this process use freed memory again, instead of returning it to the
    system.

    glibc takes each map of more than 32 MB from the system anew, which fills
    it with zeros page by page: up to three tenths of the time of a ResNet-50
    on an image of 800x1344. The process keeps the most that it has ever used.
    Without glibc nothing happens.
    """
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def is_on_cpu(model) -> bool:
    """Whether all parameters of a model (nn.Module) are."""
    return all(p.device.type == 'cpu' for p in model.parameters())


def keep_freed_memory_of(model) -> None:
    """:func:`keep_freed_memory` if a model (nn.Module) is on the CPU."""
    if is_on_cpu(model):
        keep_freed_memory()
