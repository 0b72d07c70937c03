"""The errors that are for a user, not for a programmer."""
import os.path as osp
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something a user can mend. The message says in a line what is wrong,
    where, and what to do; the tools print it without a traceback.

    Subclasses tell what it is about: :class:`CheckpointError`, DataError, ...
    """


class CheckpointError(UserError, ValueError):
    """A checkpoint that is not loaded."""


class NoCheckpointError(CheckpointError, FileNotFoundError):
    """A checkpoint that is not there, or cannot be downloaded."""


class FrozenWeightsError(UserError, ValueError):
    """A training that would freeze what no checkpoint has filled."""


@contextmanager
def errors_in_one_line(*others: type[Exception]) -> Iterator[None]:
    """For ``main`` of each tool: a UserError ends it with its message.

    Args:
        *others: Further errors of which the message is enough.

    Raises:
        SystemExit: ``NAME_OF_TOOL: MESSAGE``.
    """
    try:
        yield
    except (UserError, *others) as error:
        tool = osp.splitext(osp.basename(sys.argv[0]))[0]
        raise SystemExit(f'{tool}: {error}') from error
