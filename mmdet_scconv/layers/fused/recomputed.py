"""Maps that the backward pass computes again, because this costs less than
keeping them."""
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..common import is_recorded


class Recomputed:
    """A context in which autograd does not save certain maps.

    An operator in the context that would save such a map gets it recomputed in
    its backward pass.

    Args:
        function (Callable): Takes x, yields each map when it is computed,
            before an operator uses it.
        x (Tensor): The input of all of them; it is kept.
    """

    def __init__(self, function: Callable[[Tensor], Iterator[Tensor]],
                 x: Tensor) -> None:
        self.function, self.x, self.version = function, x, x._version
        device = x.device.type
        self.autocast = torch.autocast(
            device, torch.get_autocast_dtype(device),
            torch.is_autocast_enabled(device))
        self.maps, self.again = [], []

    def __enter__(self) -> list[Tensor]:
        self.hooks = torch.autograd.graph.saved_tensors_hooks(
            self.pack, self.unpack)
        self.hooks.__enter__()
        try:
            for made in self.function(self.x):
                self.maps.append(made)
        except BaseException as error:  # Python calls no __exit__ then
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self.maps

    def __exit__(self, *error) -> None:
        self.hooks.__exit__(*error)
        del self.hooks  # a cycle, which would keep the maps until Python's gc
        self.maps.clear()

    def pack(self, saved: Tensor):
        storage = saved.untyped_storage().data_ptr()
        for i, made in enumerate(self.maps):
            if made.untyped_storage().data_ptr() == storage:
                return i, saved.shape, saved.stride(), saved.storage_offset()
        return saved, saved._version

    def unpack(self, packed) -> Tensor:
        if isinstance(packed[0], Tensor):
            check_unchanged(*packed)
            return packed[0]
        if not self.again:
            check_unchanged(self.x, self.version)
            with torch.no_grad(), self.autocast:
                self.again += self.function(self.x.detach())
        i, *geometry = packed
        return self.again[i].as_strided(*geometry)


def check_unchanged(tensor: Tensor, version: int) -> None:
    """Autograd's own check, which it does not do in saved_tensors_hooks.

    Raises:
        RuntimeError: If a tensor was changed in place.
    """
    if tensor._version != version:
        raise RuntimeError(
            'one of the variables needed for gradient computation has been '
            f'modified by an inplace operation: of shape {tuple(tensor.shape)}'
            f', it is at version {tensor._version}; expected version '
            f'{version}')


def records_eagerly(*tensors: Tensor | None) -> bool:
    """Whether autograd would keep maps that are computed from these tensors,
    in eager mode.

    False in a compiler's graph and in a trace, which must be the same with and
    without gradients.
    """
    return is_recorded(*tensors) and not (
        torch.compiler.is_compiling() or torch.jit.is_tracing())
