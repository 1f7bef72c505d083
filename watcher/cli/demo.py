"""`watcher demo`: everything at once with no account."""

from __future__ import annotations

from argparse import Namespace

from watcher import loop
from watcher.demo import demo


def execute(arguments: Namespace) -> int:
    """Run until interrupted or its time is up."""
    return loop.run(demo(operations=arguments.operations, duration=arguments.duration))
