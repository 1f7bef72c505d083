"""Output of commands: results go to standard output, messages for the operator to standard error."""

from __future__ import annotations

import os
import sys

from watcher.cli.exits import Exit, FailedError
from watcher.core.printable import printable


def say(*lines: str) -> None:
    """Write all lines to standard output and flush. Raises FailedError if that fails, e.g. on a full disk."""
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
    """Discard the rest of the buffer, now and when the interpreter exits, so that no further error is raised."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(*lines: str) -> None:
    """Write lines to standard error, with characters that a terminal may take for a command written out."""
    sys.stderr.write("".join(f"{printable(line)}\n" for line in lines))
    sys.stderr.flush()
