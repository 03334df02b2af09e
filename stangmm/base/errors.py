"""Exceptions and warnings: each says what was expected, what came, and what to do."""

from __future__ import annotations

from typing import Any


class StangmmError(Exception):
    """Base class of every error that stangmm raises on purpose."""


class DataError(StangmmError, ValueError):
    """The data cannot be used as they are; raised before anything starts."""


class ModelError(StangmmError, ValueError):
    """The model, its priors or a method's settings make no sense; raised before anything starts."""


class CmdStanNotFoundError(StangmmError):
    """No usable CmdStan was found; the message names the command that installs one."""


class CompileError(StangmmError):
    """The Stan model did not compile; the message carries the end of the compiler's log."""


class InferenceError(StangmmError):
    """A method started and failed.

    Parameters
    ----------
    message : str
        What failed and what to do.
    partial : object, optional
        What was finished before the failure (for NUTS, a Fit of the chains that ended well).
    log : str, optional
        What CmdStan printed.
    """

    def __init__(self, message: str, *, partial: Any = None, log: str = "") -> None:
        super().__init__(message)
        self.partial = partial
        self.log = log


class ConvergenceWarning(UserWarning):
    """The fit ended, but a check says that it should not be trusted as it stands."""


class MisfitWarning(ConvergenceWarning):
    """The computation may be right, but the mixture does not describe the data."""
