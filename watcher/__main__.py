"""`watcher` and `python -m watcher`: reads the command line, runs one command, and turns its end into an exit code.

Nothing heavy is imported here: `watcher healthcheck` runs every few seconds in every container, and needs the standard
library alone.
"""

from __future__ import annotations

import os
import sys

from watcher import signals

# Before the rest is imported, as `python -m watcher` and as the installed command.
if __name__ == "__main__" or os.path.basename(sys.argv[0]) == "watcher":  # noqa: PTH119 -- pathlib is slow to import
    signals.handle_from_now_on(sys.argv[1:])

import io
from collections.abc import Sequence

from watcher.cli.exits import Exit, FailedError
from watcher.cli.output import give_up_output, warn
from watcher.cli.parser import parse

# What a shell says of a program that these signals ended.
INTERRUPTED = 130
READER_WENT_AWAY = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of the arguments, else those of the process; the exit code."""
    if argv is None:
        signals.handle_from_now_on(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A locale that cannot say everything is no reason to say nothing.
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(argv)
    except BrokenPipeError:
        # As in `watcher list | head`.
        give_up_output()
        return READER_WENT_AWAY
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(argv: Sequence[str] | None) -> int:
    try:
        command, arguments = parse(argv)
    except SystemExit as exc:  # argparse has said it all: --help and --version are 0, a mistake is 2
        sys.stdout.flush()
        return int(exc.code or 0)
    try:
        return command(arguments)
    except FailedError as exc:
        warn(*f"watcher {arguments.command}: {exc}".splitlines())
        return exc.code
    except BrokenPipeError:
        raise
    except Exception as exc:  # noqa: BLE001 -- the last resort; told below
        return _reported(exc, arguments.command)


def _reported(exc: Exception, command: str) -> Exit:
    """Say what an operator must change; anything else is a fault of ours, and told with all that helps to find it."""
    from watcher.config import ConfigurationError
    from watcher.core.errors import OperatorError

    match exc:
        case ConfigurationError():
            warn(*str(exc).splitlines())  # each line names its own place
        case OperatorError():
            warn(*f"watcher {command}: {exc}".splitlines())
        case _:
            import traceback

            traceback.print_exception(exc)
            return Exit.FAULT
    return Exit.USAGE


if __name__ == "__main__":
    sys.exit(main())
