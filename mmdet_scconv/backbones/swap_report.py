"""The report of a swap: which convolutions were replaced, and which not."""
import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..pretrained import Report

SHOWN = 3  # names of a group in the log


@dataclass
class SwapReport(Report):
    """Which convolutions of a module were replaced, and which were not."""

    module: str
    """Class of the module."""
    conv: str
    """Type of the new convolutions."""
    params: tuple[int, int] = (0, 0)
    """Parameters of the module before and after."""
    swapped: dict[str, str] = field(default_factory=dict)
    """Size and channels of each replaced convolution, by its first name."""
    passed_over: dict[str, str] = field(default_factory=dict)
    """Why a convolution was not replaced, by name."""
    shared: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Further names of replaced convolutions that several modules share."""
    shared_norms: list[str] = field(default_factory=list)
    """Those of ``shared`` with a BatchNorm inside, so one for several maps."""
    fitted: dict[str, str] = field(default_factory=dict)
    """Options other than the defaults that a width needs, by name."""

    def lines(self) -> Iterator[tuple[int, str]]:
        """The report in a few lines, each with its logging level."""
        total = len(self.swapped) + len(self.passed_over)
        before, after = (f'{count / 1e6:.3g}M' for count in self.params)
        yield logging.INFO if self.swapped else logging.WARNING, (
            f'{self.module}: {len(self.swapped)} of {total} convolutions '
            f'swapped for {self.conv}, {before} -> {after} parameters')
        for title, reasons in (
            ('swapped', self.swapped),
            ('of these, with options for their width', self.fitted),
            ('not swapped', self.passed_over)):
            groups = defaultdict(list)
            for name, reason in reasons.items():
                groups[reason].append(name)
            for reason, names in groups.items():
                yield logging.INFO, f'  {title}, {reason}: {listed(names)}'
        if self.shared_norms:
            yield logging.WARNING, (
                f'{self.module}: several modules share a {self.conv} with '
                'BatchNorms inside, whose statistics are of all their maps '
                f'together: {listed(self.shared_norms)}. GroupNorm has none: '
                f"conv=dict(type='{self.conv}', norm_cfg=dict(type='GN', "
                'num_groups=...))')


def listed(names: list[str]) -> str:
    """How many names there are, and the first of them."""
    more = ', ...' if len(names) > SHOWN else ''
    return f'{len(names)} ({", ".join(names[:SHOWN])}{more})'
