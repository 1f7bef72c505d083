"""`watcher list`: tracked and recently finished operations, as a table or as the API's own JSON."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from watcher.cli.admin_client import AdminClient, daemon
from watcher.cli.exits import Exit
from watcher.cli.formatting import Operation, ago_words, labels_words, sent_words, status_words
from watcher.cli.output import say
from watcher.core.channels import FAILURES

PAGE = 1000
"""Most rows in one answer of the daemon."""

_WIDEST = 160
_RIGHT = frozenset({"sent", *FAILURES, "changed"})
_OPTIONAL = frozenset({"account", "labels"})
_STYLES = {"COMPLETED": "green", "PROCESSING": "cyan", "SCHEDULED": "blue", "UNSEEN": "dim", "UNKNOWN": "yellow"}


class Page(msgspec.Struct, frozen=True):
    """One page of the API, each row as received."""

    operations: list[msgspec.Raw]
    next: str | None = None


def execute(arguments: Namespace) -> int:
    """Print the operations."""
    with daemon(arguments) as found:
        page = _pages(found, arguments)
    if arguments.json:
        say(msgspec.json.encode(page).decode())
        return Exit.GOOD
    operations = [msgspec.json.decode(row, type=Operation) for row in page.operations]
    if operations:
        _show(rows(operations, datetime.now(UTC)))
    else:
        say("no operations")
    if page.next is not None:
        say(f"and more; --limit sets how many are shown (now {arguments.limit:,})")
    return Exit.GOOD


def _pages(found: AdminClient, arguments: Namespace) -> Page:
    """Return up to `--limit` rows, over several pages if needed."""
    whole: list[msgspec.Raw] = []
    after: str | None = None
    while True:
        query = {
            "status": arguments.statuses or None,
            "account": arguments.account,
            "limit": min(arguments.limit - len(whole), PAGE),
            "after": after,
        }
        page = msgspec.json.decode(found.ask("GET", "/api/v1/operations", query=query), type=Page)
        whole += page.operations
        after = page.next
        if after is None or len(whole) >= arguments.limit:
            return Page(operations=whole, next=after)


def rows(operations: Sequence[Operation], now: datetime) -> list[dict[str, str]]:
    """Return a row of texts for each operation.

    `account` is left out if all have the same, `labels` if none has any.
    """
    whole = [
        {
            "operation": one.id,
            "status": status_words(one),
            "sent": sent_words(one.stats),
            **{name: "" if (count := getattr(one.stats, name)) is None else f"{count:,}" for name in FAILURES},
            "changed": ago_words(one.progressed_at, now),
            "account": one.account,
            "labels": labels_words(one.labels),
        }
        for one in operations
    ]
    idle = {
        name
        for name in _OPTIONAL
        if len({row[name] for row in whole}) == 1 and (name == "account" or not whole[0][name])
    }
    return [{name: words for name, words in row.items() if name not in idle} for row in whole]


def _show(table: Sequence[dict[str, str]]) -> None:
    if sys.stdout.isatty():
        console = Console()
        console.print(drawn(table), width=min(console.width, _WIDEST))
    else:
        say(*aligned(table))


def drawn(table: Sequence[dict[str, str]]) -> Table:
    """Return the table for a terminal: ids are never shortened, failures are red."""
    whole = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in table[0]:
        whole.add_column(
            name, justify="right" if name in _RIGHT else "left", overflow="fold" if name == "operation" else "ellipsis"
        )
    for row in table:
        whole.add_row(*(Text(words, style=_style(name, words)) for name, words in row.items()))
    return whole


def aligned(table: Sequence[dict[str, str]]) -> list[str]:
    """Return the lines for other outputs: aligned columns, nothing shortened."""
    lines = [{name: name.upper() for name in table[0]}, *table]
    widths = {name: max(len(line[name]) for line in lines) for name in table[0]}
    return ["  ".join(_padded(line[name], widths[name], name) for name in line).rstrip() for line in lines]


def _padded(words: str, width: int, name: str) -> str:
    return words.rjust(width) if name in _RIGHT else words.ljust(width)


def _style(name: str, words: str) -> str:
    if name == "status":
        return _STYLES.get(words, "red")
    return "red" if name in FAILURES and words not in {"", "0"} else ""
