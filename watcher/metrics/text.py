"""The series of operations as text.

What the lines of an operation say hardly ever changes but for a few numbers. So of each operation its lines are kept
from scrape to scrape with holes for those numbers, and a scrape joins the lines of many operations and fills all their
holes in one go. What is kept is never more than what was shown last. Gauges read alike in both formats; only the heads
of families differ, and those are given. `census` is the reference: what is written here is byte for byte what
prometheus-client writes of it.

All of this runs in a thread beside the event loop, so it takes short steps and rests between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import Any, TypeAlias

import msgspec
from prometheus_client.utils import floatToGoString

from watcher.core.model import SECOND, Instant, Operation
from watcher.metrics.census import COUNTS, INFO, INSTANTS, NOTIFICATIONS, PER_OPERATION, STATES, STATUS

BATCH = 250
"""Operations whose lines are joined in one go: some 150 kB a family, more where labels are long."""

STEP = 25
"""Operations that are written between two looks at the time."""

STEP_SECONDS = 0.001
"""So long the thread works before it lets go of the interpreter. Asked for it by another thread it would do so too, but
only after 5 ms."""

REST_SECONDS = 0.000_05
"""Long enough for a thread that waits for the interpreter to get it."""

MOVING_INSTANTS = ("updated_at", "progressed_at")
"""Instants that change while an operation runs; the others are written into its lines."""

_Lines: TypeAlias = tuple[bytes, ...]
_Filling: TypeAlias = tuple[Any, ...]

_counts_of = attrgetter(*STATES, *(path.removeprefix("stats.") for _, _, path in COUNTS))


class _Written(msgspec.Struct, frozen=True, gc=False):
    """An operation and its lines: one text a family, empty where it has none. `filling` is what belongs into the holes.

    These are the counts and the instants that move. Where one is missing, or so large that it is written otherwise, all
    are written out and there are no holes.
    """

    operation: Operation
    lines: _Lines
    filling: _Filling

    def says_the_same_of(self, operation: Operation) -> bool:
        """Whether the lines say the same but for the filling."""
        mine = self.operation
        return (
            operation.status is mine.status
            and operation.ended_at == mine.ended_at
            and operation.created_at == mine.created_at
            and operation.account == mine.account
            and operation.labels == mine.labels
        )

    def is_filled_the_same_by(self, operation: Operation) -> bool:
        """Whether the filling is the same: after most looks it is."""
        mine = self.operation
        return (
            operation.updated_at == mine.updated_at
            and operation.progressed_at == mine.progressed_at
            and operation.stats == mine.stats
        )


class _TextBatch:
    """Operations beside each other."""

    def __init__(self) -> None:
        self.lines: list[_Lines] = []
        self.fillings: list[_Filling] = []

    def add(self, written: _Written) -> None:
        """One more."""
        self.lines.append(written.lines)
        if written.filling:
            self.fillings.append(written.filling)

    def families(self) -> list[tuple[_Lines, _Filling]]:
        """For each family the lines of all, and what belongs into their holes."""
        columns = [*zip(*self.fillings, strict=True)] or [()] * (len(STATES) + len(COUNTS) + len(MOVING_INSTANTS))
        states = tuple(chain.from_iterable(zip(*columns[: len(STATES)], strict=True)))
        moving = dict(zip(MOVING_INSTANTS, columns[-len(MOVING_INSTANTS) :], strict=True))
        instants = [moving.get(path, ()) for _, _, path in INSTANTS]
        counts = columns[len(STATES) : -len(MOVING_INSTANTS)]
        return [*zip(zip(*self.lines, strict=True), (states, *counts, *instants, (), ()), strict=True)]


class Pace:
    """The rests of a thread between its steps."""

    def __init__(
        self, rest: Callable[[float], None] = time.sleep, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._rest = rest
        self._now = now
        self._since = now()

    def step(self) -> None:
        """Rest where the last one was too long ago."""
        if self._now() - self._since >= STEP_SECONDS:
            self._rest(REST_SECONDS)
            self._since = self._now()


class OperationText:
    """The text of the operations' families, with these labels of operations.

    Scrapes may overlap: each reads what was kept when it began, and what it wrote is kept as a whole.
    """

    def __init__(self, labels: Sequence[str] = ()) -> None:
        self.labels = tuple(labels)
        self._kept: dict[str, _Written] = {}
        self._info_names = sorted((*PER_OPERATION, *labels))

    def __len__(self) -> int:
        """Of how many operations lines are kept."""
        return len(self._kept)

    def pieces(self, shown: Iterable[Operation], heads: Sequence[bytes], pace: Pace) -> Iterator[bytes]:
        """Every family behind its head, in pieces. `heads` are as many as families, in the order of the reference."""
        families: list[list[tuple[_Lines, _Filling]]] = []
        for batch in self._batches(shown, pace):
            families.append(batch.families())
            pace.step()
        for number, head in enumerate(heads):
            yield head
            for family in families:
                lines, fillings = family[number]
                yield b"".join(lines) % fillings
                family[number] = ((), ())  # let go of it here, for all at the end would be a long step
                pace.step()

    def _batches(self, shown: Iterable[Operation], pace: Pace) -> Iterator[_TextBatch]:
        before = self._kept
        kept: dict[str, _Written] = {}
        batch = _TextBatch()
        for number, operation in enumerate(shown, 1):
            written = kept[operation.id] = self._write(operation, before.get(operation.id))
            batch.add(written)
            if number % STEP == 0:
                pace.step()
            if len(batch.lines) == BATCH:
                yield batch
                batch = _TextBatch()
        if batch.lines:
            yield batch
        replaced, self._kept = self._kept, kept
        self._let_go(before, pace)
        if replaced is not before:  # by a scrape that ran beside this one
            self._let_go(replaced, pace)

    def _let_go(self, kept: dict[str, _Written], pace: Pace) -> None:
        """Free what was kept before, in short steps too. A scrape that still reads it writes anew what it misses."""
        for number, operation_id in enumerate(tuple(kept)):
            kept.pop(operation_id, None)
            if number % BATCH == 0:
                pace.step()

    def _write(self, operation: Operation, before: _Written | None) -> _Written:
        if before is None or not before.says_the_same_of(operation):
            return self._write_anew(operation)
        if before.operation is operation:
            return before
        if before.is_filled_the_same_by(operation):
            return _Written(operation, before.lines, before.filling)
        filling = _filling(operation)
        return _Written(operation, before.lines, filling) if filling and before.filling else self._write_anew(operation)

    def _write_anew(self, operation: Operation) -> _Written:
        filling = _filling(operation)
        return _Written(operation, self._lines(operation, holes=bool(filling)), filling)

    def _lines(self, operation: Operation, *, holes: bool) -> _Lines:
        who = f'account="{escaped(operation.account)}",operation_id="{escaped(operation.id)}"'

        def count(value: int | None) -> str | None:
            return None if value is None else "%d.0" if holes else _number(value)

        def instant(path: str, value: Instant | None) -> str | None:
            return None if value is None else "%b" if holes and path in MOVING_INSTANTS else _seconds(value)

        states = [
            _line(NOTIFICATIONS[0], f'{who},state="{state}"', count(getattr(operation.stats, state)))
            for state in STATES
        ]
        return (
            b"".join(states),
            *[_line(name, who, count(read(operation))) for name, read in _COUNTS],
            *[_line(name, who, instant(path, getattr(operation, path))) for name, _, path in INSTANTS],
            _line(STATUS[0], f'{who},status="{operation.status}"', "1.0"),
            self._info(operation),
        )

    def _info(self, operation: Operation) -> bytes:
        """The user's labels stand among ours by name, as labels do in every line."""
        values = {**operation.labels, "account": operation.account, "operation_id": operation.id}
        labels = [f'{name}="{escaped(values.get(name, ""))}"' for name in self._info_names]
        return _line(INFO[0], ",".join(labels), "1.0")


def _filling(operation: Operation) -> _Filling:
    """Nothing where not everything can be filled in."""
    counts, updated_at, progressed_at = _counts_of(operation.stats), operation.updated_at, operation.progressed_at
    if None in counts or updated_at is None or progressed_at is None or max(counts) >= _PLAIN_BELOW:
        return ()
    return (*counts, _seconds_filled_in(updated_at), _seconds_filled_in(progressed_at))


@lru_cache(maxsize=1 << 12)
def _seconds_filled_in(instant: Instant) -> bytes:
    """Kept, since what one page showed has its instants in common, and upstream's are whole seconds."""
    return _seconds(instant).encode()


_COUNTS = [(name, attrgetter(path)) for name, _, path in COUNTS]


def _line(name: str, labels: str, value: str | None) -> bytes:
    """The line, to be filled: what looks like a hole in the labels is none. Nothing without a value."""
    return b"" if value is None else f"{name}{{{labels.replace('%', '%%')}}} {value}\n".encode()


def escaped(value: str) -> str:
    """The label value as it stands between its quotes."""
    # Intake lets no lone surrogate in; should one come another way, it must not cost the whole scrape.
    value = value if value.isascii() else value.encode(errors="replace").decode()
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


_PLAIN_BELOW = 1_000_000
"""From here on numbers are written with an exponent."""

_TEN_DIGITS_FROM: Instant = 1_000_000_000 * SECOND
_TEN_DIGITS_UNTIL: Instant = 4_000_000_000 * SECOND
"""2001 to 2096: here microseconds are told apart as floating-point seconds, so their digits are the shortest text."""


def sample_value(value: float) -> str:
    """The value as prometheus-client writes it."""
    return f"{float(value)}" if 0 <= value < _PLAIN_BELOW else _go_float(value)


def _number(value: int) -> str:
    return f"{value}.0" if 0 <= value < _PLAIN_BELOW else _go_float(value)


def _seconds(instant: Instant) -> str:
    if _TEN_DIGITS_FROM <= instant < _TEN_DIGITS_UNTIL:
        digits = str(instant)
        return f"{digits[0]}.{digits[1:]}".rstrip("0.") + "e+09"
    return _go_float(instant / SECOND)


def _go_float(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]
