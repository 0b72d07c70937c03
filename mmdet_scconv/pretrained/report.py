"""Reports for a log: what was loaded, what was swapped."""
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mmengine.logging import print_log


class Report(ABC):
    """A report of a few lines; subclasses define :meth:`lines`."""

    @abstractmethod
    def lines(self) -> Iterator[tuple[int, str]]:
        """The lines, each with its logging level."""

    def log(self) -> None:
        for level, line in self.lines():
            print_log(line, logger='current', level=level)

    def __str__(self) -> str:
        return '\n'.join(line for _, line in self.lines())


def some(names: Sequence[str], limit: int = 4) -> str:
    """The first names of a list, for a message."""
    rest = len(names) - limit
    return ', '.join(names[:limit]) + (f', and {rest} more' if rest > 0 else
                                       '')


@dataclass
class LoadReport(Report):
    """What was loaded from a checkpoint into a module. Names are the module's.

    BatchNorm's step counters are left out everywhere, and so is the file's
    classifier (``fc.``) if the module has none.
    """

    module: str
    """Class of the module."""
    checkpoint: str
    prefix: str
    """What precedes the module's names in the file, e.g. 'backbone.'."""
    matched: list[str] = field(default_factory=list)
    """Tensors that were loaded."""
    missing: list[str] = field(default_factory=list)
    """Tensors of the module that were not: these stay as they were."""
    unexpected: list[str] = field(default_factory=list)
    """Tensors under the prefix in the file that the module does not have."""
    wrong_shape: dict[str, tuple] = field(default_factory=dict)
    """Shape in the file and in the module."""
    dense: list[str] = field(default_factory=list)
    """Tensors in the file for a convolution that was swapped."""
    other_prefixes: list[str] = field(default_factory=list)
    """Prefixes that would have fitted as well as the one taken."""
    swapped: list[str] = field(default_factory=list)
    """Swapped convolutions of the module."""
    to_be_fitted: bool = False
    """Whether these are fitted to the dense ones when a training starts."""

    def random_convs(self) -> list[str]:
        """Swapped convolutions with a tensor that was not loaded."""
        return [name for name in self.swapped
                if any(key.startswith(name + '.') for key in self.missing)]

    def start_of_swapped(self) -> str:
        """A text about the initial weights of the swapped convolutions."""
        random = len(self.random_convs())
        text = f'swapped convolutions: {random} of {len(self.swapped)}'
        if self.to_be_fitted:
            return (f'{text} are not in the file; they are fitted to its '
                    'dense ones when a training starts')
        return f'{text} are randomly initialised' + (
            f'; {len(self.dense)} tensors of dense convolutions not used'
            if self.dense else '')

    def lines(self) -> Iterator[tuple[int, str]]:
        """The report in a few lines, each with its logging level."""
        total = len(self.matched) + len(self.missing)
        yield logging.INFO, (
            f'{self.module} from {self.checkpoint}: {len(self.matched)} of '
            f'{total} tensors loaded, {len(self.missing)} missing, '
            f'{len(self.unexpected)} unexpected, {len(self.wrong_shape)} of '
            f'wrong shape; prefix in the file: {self.prefix!r}')
        if self.swapped:
            yield logging.INFO, self.start_of_swapped()
        inside = tuple(name + '.' for name in self.swapped)
        besides = [key for key in self.missing if not key.startswith(inside)]
        for title, names in (
            ('missing in the file', besides),
            ('unexpected, not loaded', self.unexpected),
            ('of wrong shape, not loaded',
             list(map(self.shapes, self.wrong_shape))),
            ('the same names also lie under other prefixes',
             self.other_prefixes)):
            if names:
                yield logging.WARNING, f'{title} ({len(names)}): {some(names)}'

    def shapes(self, name: str) -> str:
        """A text about a tensor of wrong shape."""
        in_file, in_module = self.wrong_shape[name]
        return f'{name} {in_file} in the file, {in_module} in the module'


def nothing_matched(report: LoadReport, keys: Sequence[str],
                    names: Sequence[str], found: Sequence[str]) -> str:
    hint = ('' if report.prefix in found or not found else
            f'; the names lie under prefix={found[0]!r}')
    return (f'{report.checkpoint} has no weights for {report.module} under '
            f'prefix={report.prefix!r}{hint}. In the file: '
            f'{some(keys)}. In the module: {some(names)}')
