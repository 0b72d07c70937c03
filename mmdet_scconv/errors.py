"""Errors that a user can correct."""


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
