"""Where commands write: standard output has what was asked for, standard error what an operator must know."""

from __future__ import annotations

import sys


def tell(*lines: str) -> None:
    """Write lines to standard output, whole."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def warn(*lines: str) -> None:
    """Write lines to standard error, with whatever a terminal could take for a command written out."""
    sys.stderr.write("".join(f"{printable(line)}\n" for line in lines))
    sys.stderr.flush()


def printable(text: str) -> str:
    """The text with whatever is unprintable written out."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
