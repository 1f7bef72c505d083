"""`watcher check`: describes a configuration and warns about doubtful settings; starts nothing."""

from __future__ import annotations

from argparse import Namespace

from watcher.cli.configured import load_in_time
from watcher.cli.exits import Exit
from watcher.cli.output import say
from watcher.config import describe, warnings_of


def execute(arguments: Namespace) -> int:
    """Print the description and the warnings. Raises ConfigurationError with every problem at once."""
    loaded = load_in_time(arguments.config)
    say(*describe(loaded))
    warnings = warnings_of(loaded)
    if warnings:
        say("", "warnings:", *(f"  {warning}" for warning in warnings))
    say("", "the configuration is good")
    return Exit.GOOD
