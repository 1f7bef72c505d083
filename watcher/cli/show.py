"""`watcher show`: one operation, its history, and when, how and why it is polled next."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from watcher.cli.admin_client import daemon
from watcher.cli.exits import Exit, FailedError
from watcher.cli.formatting import (
    Operation,
    entry_words,
    instant_words,
    labels_words,
    next_poll_words,
    stats_words,
    status_words,
)
from watcher.cli.ids import read_ids
from watcher.cli.output import say

_WIDEST = 120


def execute(arguments: Namespace) -> int:
    """Print the operation."""
    ids = read_ids([arguments.id])
    if len(ids) > 1:
        raise FailedError(Exit.USAGE, "show takes one id at a time")
    with daemon(arguments) as found:
        answer = found.ask("GET", f"/api/v1/operations/{ids[0]}", query={"account": arguments.account})
    if arguments.json:
        say(answer.decode())
        return Exit.GOOD
    operation = msgspec.json.decode(answer, type=Operation)
    if sys.stdout.isatty():
        _draw(operation)
    else:
        say(*(f"{name + ':':<12}{words}" for name, words in facts(operation)))
        say("", *("  ".join(entry_words(entry)).rstrip() for entry in operation.history))
    return Exit.GOOD


def facts(operation: Operation) -> Iterator[tuple[str, str]]:
    """Yield the facts to show, each with its name."""
    yield "operation", operation.id
    yield "account", operation.account
    yield "status", status_words(operation)
    yield "stats", stats_words(operation.stats)
    if operation.labels:
        yield "labels", labels_words(operation.labels)
    yield "source", f"{operation.source}, registered {instant_words(operation.registered_at)}"
    for name in ("created", "updated", "progressed", "ended", "final"):
        instant = getattr(operation, f"{name}_at")
        if instant is not None:
            yield name, instant_words(instant)
    yield "next poll", next_poll_words(operation)


def _draw(operation: Operation) -> None:
    console = Console()
    width = min(console.width, _WIDEST)
    first = Table.grid(padding=(0, 2))
    for name, words in facts(operation):
        first.add_row(Text(name, style="bold"), Text(words, overflow="fold"))
    history = Table.grid(padding=(0, 2))
    for entry in operation.history:
        at, event, details = entry_words(entry)
        history.add_row(Text(at, style="dim"), Text(event, style="cyan"), Text(details, overflow="fold"))
    console.print(first, width=width)
    console.print()
    console.print(history, width=width)
