"""Whether a failure is due to the swapped backbone or to MMDetection.

If the swapped detector fails, the stock config is tried in the same way. If
that also fails, both are tried on larger images. Parts of a backbone that the
stock detector does not use, either, are no failure.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .try_backbone import SIZES, Attempt


@dataclass(frozen=True)
class Trial:
    """A config with the swapped backbone, and with its own if that failed,
    on images of ``size`` pixels."""

    config: str
    size: int
    swapped: Attempt
    stock: Attempt | None = None

    @property
    def works(self) -> bool:
        return not self.swapped.failed

    @property
    def fails_by_swap(self) -> bool:
        """Whether it fails and the stock config works."""
        return not self.works and not self.stock.failed

    @property
    def verdict(self) -> str:
        if self.works:
            return 'works'
        reason = f'{self.swapped.failed}: {self.swapped.error}'
        if self.fails_by_swap:
            return f'fails by the swap, {reason}'
        if (self.swapped.failed, self.swapped.error) == (self.stock.failed,
                                                         self.stock.error):
            return f'fails, as the stock config does, {reason}'
        return (f'fails, {reason}; so does the stock config, '
                f'{self.stock.failed}: {self.stock.error}')


def uses_as_much(new: Attempt, stock: Attempt) -> bool:
    """Whether what got no gradient are parts that got none in the stock
    detector. A swapped convolution has other parameters in the same place."""
    unused = tuple(name.rpartition('.')[0] + '.' for name in stock.unused)
    return all(name.startswith(unused) for name in new.unused)


def try_config(config: str,
               run: Callable[[str, str | None, int], Attempt],
               backbone: str = 'SCConvResNet',
               sizes: Sequence[int] = SIZES) -> Trial:
    """Try the swapped backbone, and the stock config if that fails.

    Args:
        config (str): See :func:`attempt`.
        run (Callable): Makes an :class:`Attempt` of a config, a backbone and
            a size.
        backbone (str): Defaults to 'SCConvResNet'.
        sizes (Sequence[int]): Of the images, in pixels. The next one is taken
            where a step fails with both backbones. Defaults to ``SIZES``.
    """
    for size in sizes:
        new = run(config, backbone, size)
        stock = run(config, None, size) if new.failed else None
        if new.unused and new.failed == 'train' and uses_as_much(new, stock):
            new, stock = replace(new, failed='', error=''), None
        trial = Trial(config, size, new, stock)
        if trial.works or trial.fails_by_swap:
            break
        if new.failed not in ('train', 'test'):
            break  # a larger image would change nothing
    return trial
