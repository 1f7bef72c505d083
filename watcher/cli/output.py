"""Where commands write: standard output has what was asked for, standard error what an operator must know."""

from __future__ import annotations

import os
import sys

from watcher.cli.exits import Exit, FailedError
from watcher.core.printable import printable


def say(*lines: str) -> None:
    """Write lines to standard output, whole. Raises FailedError where it takes none, e.g. on a full disk."""
    try:
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        give_up_output()
        fact = (exc.strerror or str(exc)).lower()
        raise FailedError(Exit.USAGE, f"cannot write to standard output: {fact}") from exc


def give_up_output() -> None:
    """What is left in the buffer has nowhere to go, also when the interpreter exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(*lines: str) -> None:
    """Write lines to standard error, with whatever a terminal could take for a command written out."""
    sys.stderr.write("".join(f"{printable(line)}\n" for line in lines))
    sys.stderr.flush()
