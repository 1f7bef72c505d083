"""Reading the configuration and its files for one command, with a time limit.

A pipe without a writer, or a mount that hangs, must not keep a command from ending.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from watcher.cli.exits import Exit, FailedError
from watcher.config import LoadedConfiguration, load
from watcher.deadline import within

READ_SECONDS = 10.0

T = TypeVar("T")


def load_in_time(file: str | None) -> LoadedConfiguration:
    """Return the configuration of the file, else of the environment. Raises ConfigurationError, FailedError."""
    path = None if file is None else Path(file)
    return read_in_time("the configuration was", lambda: load(path, os.environ))


def read_in_time(what: str, work: Callable[[], T]) -> T:
    """Return the result of the work. Raises FailedError at the time limit; `what` begins the message."""
    try:
        return cast("T", within(READ_SECONDS, work))
    except TimeoutError:
        message = f"{what} not read within {READ_SECONDS:g} s: a pipe, or a mount that hangs?"
        raise FailedError(Exit.USAGE, message) from None
