"""The exit codes. Where several apply, the first in the order USAGE, UNREACHABLE, ENDED_BADLY, TIMED_OUT counts."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """How a command ended; docs/commands.md says what to do about each."""

    GOOD = 0
    ENDED_BADLY = 1
    """Canceled, expired, not found, rejected, more failures than allowed; a health check failed."""
    USAGE = 2
    """The command line or the configuration must be changed first."""
    TIMED_OUT = 3
    UNREACHABLE = 4
    FAULT = 70
    """The daemon found itself frozen or a root task died; for other commands, a fault of the watcher."""


class FailedError(Exception):
    """The command cannot go on; the message is for the operator, in one or more lines."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code
