"""The progress display of `wait`: bars on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from watcher.cli.formatting import counted, stats_words
from watcher.cli.output import say
from watcher.cli.verdict import total
from watcher.core.channels import DONE, Stats
from watcher.core.model import SECOND, Micros, Operation

LINE_EVERY: Micros = 10 * SECOND
"""Shortest time between two lines of an operation whose status stays and whose stats change."""

_TAIL = 10  # the last characters of an id; the first are the same in all ids

MOST_BARS = 10
"""Above this number of operations, one bar is shown for all."""


class Display(Protocol):
    """Shows operations while the context is open; the last state stays visible."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, operations: Sequence[Operation]) -> None:
        """Show the present state of the operations."""


def display(tick: Callable[[], Micros]) -> Display:
    """Return bars if standard output is a terminal, else lines."""
    return Bars(Console()) if sys.stdout.isatty() else Lines(tick)


class Lines:
    """Writes a line when a status changes, and every 10 s at most while only stats do.

    A line begins with the seconds since the start.
    """

    def __init__(self, tick: Callable[[], Micros], write: Callable[[str], None] = say) -> None:
        self._tick = tick
        self._write = write
        self._begun = tick()
        self._last: dict[str, tuple[Operation, Micros]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: each line is written at once."""

    def show(self, operations: Sequence[Operation]) -> None:
        """Write a line for each operation that changed."""
        tick = self._tick()
        for operation in operations:
            last = self._last.get(operation.id)
            if last is None:
                self._last[operation.id] = operation, tick
                is_worth_it = operation.asked_tick > 0
            else:
                before, at = last
                is_worth_it = operation.status is not before.status or (
                    operation.stats != before.stats and tick - at >= LINE_EVERY
                )
            if is_worth_it:
                self._last[operation.id] = operation, tick
                seconds = (tick - self._begun) // SECOND
                self._write(f"{seconds:>5} s  {operation.id}  {operation.status:<10}  {stats_words(operation.stats)}")


class Bars:
    """A bar with the share of notifications done, for each operation, or one bar for all of them if they are many."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.fields[name]}", style="bold"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[status]}"),
            TextColumn("{task.fields[words]}"),
            TimeElapsedColumn(),
            console=console,
            expand=True,
            # Drawn when there is news, not by a thread of its own.
            auto_refresh=False,
        )
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, operations: Sequence[Operation]) -> None:
        """Draw the bars."""
        if len(operations) > MOST_BARS:
            ended = sum(operation.outcome is not None for operation in operations)
            self._draw(counted(len(operations), "operation"), f"{ended:,} ended", total(operations))
        else:
            for operation in operations:
                name = f"…{operation.id[-_TAIL:]}"
                self._draw(name, str(operation.status), operation.stats, ended=operation.outcome is not None)
        self._progress.refresh()

    def _draw(self, name: str, status: str, stats: Stats, *, ended: bool = False) -> None:
        bar = self._bars.get(name)
        if bar is None:
            bar = self._bars[name] = self._progress.add_task("", total=None, name=name, status="", words="")
        done = sum(getattr(stats, name) or 0 for name in DONE)
        self._progress.update(bar, completed=done, total=stats.total, status=status, words=stats_words(stats))
        if ended:
            self._progress.stop_task(bar)
