"""The errors that are for a user, not for a programmer."""


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
