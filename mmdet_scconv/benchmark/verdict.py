"""Whether a failure is due to the swapped backbone or to MMDetection.

If the swapped detector fails, the stock config is tried in the same way. If
that also fails, both are tried on larger images.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
        trial = Trial(config, size, new, stock)
        if trial.works or trial.fails_by_swap:
            break
        if new.failed not in ('train', 'test'):
            break  # a larger image would change nothing
    return trial
