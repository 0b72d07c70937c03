"""Errors that a user can correct are printed in one line."""
import os.path as osp
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import UserError


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
