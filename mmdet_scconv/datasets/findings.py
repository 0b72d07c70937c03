"""The problems of a data set's annotations, and what is done about each.

Three verdicts: *repaired* (nothing is lost, the meaning is clear), *warning*
(left out, or not used as it is written) and *refused* (no training starts).
Readers collect all problems and do not stop at the first.
"""
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from mmengine.logging import print_log

from ..errors import UserError

HOW_TO_LIST = 'tools/misc/check_dataset.py CONFIG lists all'


class DataError(UserError, ValueError):
    """Data that cannot be trained on; names the file and what is wrong."""


class MissingFileError(DataError, FileNotFoundError):
    """A file of the data set that is not there."""


@cache
def say_once(message: str) -> None:
    """Log a warning once in a process, as training and evaluation read the
    same file."""
    print_log(message, 'current', logging.WARNING)


@dataclass(frozen=True)
class Finding:
    """One problem. ``file`` is the file to open; ``text`` names the entry, the
    value, and what is done or to do."""

    verdict: str
    file: str
    text: str

    def __str__(self) -> str:
        return f'{self.verdict}: {self.file}: {self.text}'


@dataclass
class Repair:
    count: int
    first: str


@dataclass
class Findings:
    """All problems of one data set's files.

    Attributes:
        file (str): The annotation file, or list of images.
        repairs (dict): ``Repair`` by what was done.
        warnings (list): Of ``Finding``.
        refusals (list): Of ``Finding``.
        notes (list): Of ``Finding``: no problems, but of interest.
        lost (Counter): Boxes that cannot be trained on, by reason.
    """

    file: str
    repairs: dict[str, Repair] = field(default_factory=dict)
    warnings: list[Finding] = field(default_factory=list)
    refusals: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    lost: Counter = field(default_factory=Counter)
    missing_file: bool = False

    def repair(self, what: str, where: str, count: int = 1) -> None:
        """
        Args:
            what (str): What was found and how it is read; the same text for
                all repairs of a kind.
            where (str): File or entry.
            count (int): How many.
        """
        self.repairs.setdefault(what, Repair(0, where)).count += count

    def warn(self, text: str, file: str | None = None) -> None:
        self.warnings.append(Finding('warning', file or self.file, text))

    def refuse(self, text: str, file: str | None = None,
               missing: bool = False) -> None:
        """
        Args:
            missing (bool): Whether a file is not there.
        """
        if not self.refusals:
            self.missing_file = missing
        self.refusals.append(Finding('refused', file or self.file, text))

    def note(self, text: str) -> None:
        self.notes.append(Finding('noted', self.file, text))

    def __iter__(self) -> Iterator[Finding]:
        yield from self.refusals
        yield from self.warnings
        for what, repair in self.repairs.items():
            yield Finding('repaired', self.file, self.describe(what, repair))
        yield from self.notes

    @staticmethod
    def describe(what: str, repair: Repair) -> str:
        return f'{what}: {repair.count}, first: {repair.first}'

    def say(self) -> None:
        """Log the repairs, one line for each kind, and the number of warnings.
        """
        for what, repair in self.repairs.items():
            say_once(f'{self.file}: repaired: {self.describe(what, repair)}')
        for note in self.notes:
            say_once(f'{note.file}: {note.text}')
        if self.warnings:
            first = self.warnings[0]
            say_once(f'{self.file}: warnings: {len(self.warnings)}, first: '
                     f'{first.file}: {first.text} ({HOW_TO_LIST})')

    def raise_refused(self) -> None:
        """
        Raises:
            MissingFileError: If the first that is refused is a file that is
                not there.
            DataError: If anything else is refused.
        """
        if not self.refusals:
            return
        first, more = self.refusals[0], len(self.refusals) - 1
        message = f'{first.file}: {first.text}'
        if more:
            message += f' (also refused: {more}; {HOW_TO_LIST})'
        raise (MissingFileError if self.missing_file else DataError)(message)


def read_flag(value: object) -> int:
    """A flag as 0 or 1. Tools write it as ``1``, ``'true'``, ``None``,
    ``'Unspecified'``, ...; anything that is not a number is 0."""
    text = str(value).strip().lower()
    if text in ('true', 'yes'):
        return 1
    try:
        number = float(text)
    except ValueError:
        return 0
    return int(number == number and number != 0)  # NaN is none
