"""`watcher check`: says what a configuration means and what is doubtful about it, and starts nothing."""

from __future__ import annotations

from argparse import Namespace

from watcher.cli.configured import load_in_time
from watcher.cli.exits import Exit
from watcher.cli.output import say
from watcher.config import describe, warnings_of


def execute(arguments: Namespace) -> int:
    """Say it; what is wrong comes as ConfigurationError, every problem at once."""
    loaded = load_in_time(arguments.config)
    say(*describe(loaded))
    doubtful = warnings_of(loaded)
    if doubtful:
        say("", "doubtful:", *(f"  {doubt}" for doubt in doubtful))
    say("", "the configuration is good")
    return Exit.GOOD
