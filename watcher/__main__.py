"""`watcher` and `python -m watcher`: reads the command line, runs one command, and returns its exit code.

Nothing slow is imported here: `watcher healthcheck` runs every few seconds in every container, and needs nothing but
the standard library.
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

# The exit codes that a shell shows for programs ended by SIGINT and SIGPIPE.
INTERRUPTED = 130
READER_WENT_AWAY = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv`, or in the arguments of the process. Returns the exit code."""
    if argv is None:
        signals.handle_from_now_on(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Where the locale cannot encode a character, it is escaped instead of ending the command.
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
    except SystemExit as exc:  # argparse has printed everything: 0 for --help and --version, 2 for a mistake
        sys.stdout.flush()
        return int(exc.code or 0)
    try:
        return command(arguments)
    except FailedError as exc:
        warn(*f"watcher {arguments.command}: {exc}".splitlines())
        return exc.code
    except BrokenPipeError:
        raise
    except Exception as exc:  # noqa: BLE001 -- the last resort; `_reported` prints it
        return _reported(exc, arguments.command)


def _reported(exc: Exception, command: str) -> Exit:
    """Print what an operator must change. Anything else is a fault of ours, and is printed with its traceback."""
    from watcher.config import ConfigurationError
    from watcher.core.errors import OperatorError

    match exc:
        case ConfigurationError():
            warn(*str(exc).splitlines())  # each line begins with its place in the configuration
        case OperatorError():
            warn(*f"watcher {command}: {exc}".splitlines())
        case _:
            import traceback

            traceback.print_exception(exc)
            return Exit.FAULT
    return Exit.USAGE


if __name__ == "__main__":
    sys.exit(main())
