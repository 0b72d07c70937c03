"""Errors that a user can correct."""
import os.path as osp
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """An error that a user can correct. Its message says in one line what is
    wrong, where, and what to do; the tools print it without a traceback.

    Subclasses name the subject: :class:`CheckpointError`, DataError, ...
    """


class CheckpointError(UserError, ValueError):
    """A checkpoint that cannot be used."""


class NoCheckpointError(CheckpointError, FileNotFoundError):
    """A checkpoint that does not exist or cannot be downloaded."""


class FrozenWeightsError(UserError, ValueError):
    """A training that would freeze what no checkpoint has filled."""


@contextmanager
def errors_in_one_line(*others: type[Exception]) -> Iterator[None]:
    """For ``main`` of each tool: a UserError ends it with its message.

    Args:
        *others: Further errors that are printed in this way.

    Raises:
        SystemExit: ``NAME_OF_TOOL: MESSAGE``.
    """
    try:
        yield
    except (UserError, *others) as error:
        tool = osp.splitext(osp.basename(sys.argv[0]))[0]
        raise SystemExit(f'{tool}: {error}') from error
