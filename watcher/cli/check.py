"""`watcher check`: says what a configuration means and what is doubtful about it, and starts nothing."""

from __future__ import annotations

from argparse import Namespace

from watcher.cli.configured import load_in_time
from watcher.cli.exits import Exit
from watcher.cli.output import tell
from watcher.config import describe, warnings_of


def execute(arguments: Namespace) -> int:
    """Say it; what is wrong comes as ConfigurationError, every problem at once."""
    loaded = load_in_time(arguments.config)
    tell(*describe(loaded))
    doubtful = warnings_of(loaded)
    if doubtful:
        tell("", "doubtful:", *(f"  {doubt}" for doubt in doubtful))
    tell("", "the configuration is good")
    return Exit.GOOD
