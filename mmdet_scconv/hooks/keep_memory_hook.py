"""Keeps freed memory where a model runs on the CPU."""
from mmdet.registry import HOOKS
from mmengine.hooks import Hook

from ..memory import keep_freed_memory_of


@HOOKS.register_module()
class KeepMemoryHook(Hook):
    """Lets the process use freed memory again if the model is on the CPU; see
    :func:`~mmdet_scconv.memory.keep_freed_memory`.

    Args:
        keep (bool): False leaves the memory to the system, for images of many
            sizes on a machine with little of it. Defaults to True.
    """

    def __init__(self, keep: bool = True) -> None:
        self.keep = keep

    def before_run(self, runner) -> None:
        if self.keep:
            keep_freed_memory_of(runner.model)
