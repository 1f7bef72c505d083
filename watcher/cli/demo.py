"""`watcher demo`: the whole watcher with a simulated API, without an account."""

from __future__ import annotations

from argparse import Namespace

from watcher import loop
from watcher.demo import demo


def execute(arguments: Namespace) -> int:
    """Run until interrupted or until the duration is over."""
    return loop.run(demo(operations=arguments.operations, duration=arguments.duration))
