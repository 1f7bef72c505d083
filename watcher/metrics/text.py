"""The series of operations as text.

From scrape to scrape only a few numbers in the lines of an operation change. So its lines are kept as a template, with
a hole for each of these numbers. A scrape joins the templates of 250 operations and fills all their holes with a single
`%` of bytes:

    template   twilio_operation_messages{account="main",channel="push",operation_id="…",state="sent"} %d.0
    filling    (12,)
    text       twilio_operation_messages{account="main",channel="push",operation_id="…",state="sent"} 12.0

Templates are kept only for operations that the last scrape showed. Gauges are the same in both formats; the heads of
families differ and are passed in. `census` is the reference: the text is byte for byte what prometheus-client writes
for it.

All of this runs in a thread beside the event loop, in short steps with pauses between them.
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

from watcher.core.channels import PUSH, STATES
from watcher.core.model import SECOND, Instant, Operation
from watcher.metrics.census import COUNTS, INFO, INSTANTS, MESSAGES, PER_OPERATION, STATUS

BATCH = 250
"""Operations whose lines are joined at once: about 150 kB per family, more with long labels."""

STEP = 25
"""Operations that are written between two readings of the clock."""

STEP_SECONDS = 0.001
"""How long the thread works before it releases the interpreter lock. Without that, a waiting thread gets it only after
5 ms (`sys.getswitchinterval`), and that would delay the event loop at each step."""

REST_SECONDS = 0.000_05
"""Long enough for a waiting thread to get the interpreter lock."""

MOVING_INSTANTS = ("updated_at", "progressed_at")
"""Instants that change while an operation runs; the others are written into its lines."""

_Lines: TypeAlias = tuple[bytes, ...]
_Filling: TypeAlias = tuple[Any, ...]

_counts_of = attrgetter(*STATES, *(path.removeprefix("stats.") for _, _, path in COUNTS))


class _Written(msgspec.Struct, frozen=True, gc=False):
    """An operation and its lines: one text per family, empty if it has no sample there.

    `filling`: the numbers for the holes, which are the counts and `MOVING_INSTANTS`. If one of them is missing, or so
    large that it is written with an exponent, the lines have no holes at all.
    """

    operation: Operation
    lines: _Lines
    filling: _Filling

    def says_the_same_of(self, operation: Operation) -> bool:
        """Whether the template is still right for the operation."""
        mine = self.operation
        # The account too: an id that two accounts track has one place in `_kept`, and each would get the other's lines.
        return (
            operation.status is mine.status
            and operation.ended_at == mine.ended_at
            and operation.created_at == mine.created_at
            and operation.account == mine.account
            and operation.labels == mine.labels
        )

    def is_filled_the_same_by(self, operation: Operation) -> bool:
        """Whether the filling is still right: after most polls it is."""
        mine = self.operation
        return (
            operation.updated_at == mine.updated_at
            and operation.progressed_at == mine.progressed_at
            and operation.stats == mine.stats
        )


class _TextBatch:
    """Operations whose lines are joined at once."""

    def __init__(self) -> None:
        self.lines: list[_Lines] = []
        self.fillings: list[_Filling] = []

    def add(self, written: _Written) -> None:
        """Add an operation."""
        self.lines.append(written.lines)
        if written.filling:
            self.fillings.append(written.filling)

    def families(self) -> list[tuple[_Lines, _Filling]]:
        """For each family the lines of all operations, and the numbers for their holes in the same order."""
        # A filling is a row with all numbers of one operation. A family needs the column of its number:
        #     rows     (scheduled A, queued A, …, size A, …)   (scheduled B, queued B, …, size B, …)
        #     size     (size A, size B)
        #     states   (scheduled A, queued A, …, scheduled B, queued B, …)
        # The states are several lines per operation in one family, so their columns are merged operation by operation.
        # Without any filling the lines have no holes, and each family gets an empty tuple.
        columns = [*zip(*self.fillings, strict=True)] or [()] * (len(STATES) + len(COUNTS) + len(MOVING_INSTANTS))
        states = tuple(chain.from_iterable(zip(*columns[: len(STATES)], strict=True)))
        moving = dict(zip(MOVING_INSTANTS, columns[-len(MOVING_INSTANTS) :], strict=True))
        instants = [moving.get(path, ()) for _, _, path in INSTANTS]
        counts = columns[len(STATES) : -len(MOVING_INSTANTS)]
        return [*zip(zip(*self.lines, strict=True), (states, *counts, *instants, (), ()), strict=True)]


class Pace:
    """The pauses of a thread between its steps."""

    def __init__(
        self, rest: Callable[[float], None] = time.sleep, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._rest = rest
        self._now = now
        self._since = now()

    def step(self) -> None:
        """Pause if the last pause was too long ago."""
        if self._now() - self._since >= STEP_SECONDS:
            self._rest(REST_SECONDS)
            self._since = self._now()


class OperationText:
    """The text of the operations' families, with these labels of operations.

    Scrapes may overlap. Each reads the templates that were there when it began, and replaces them as a whole.
    """

    def __init__(self, labels: Sequence[str] = ()) -> None:
        self.labels = tuple(labels)
        self._kept: dict[str, _Written] = {}
        self._info_names = sorted((*PER_OPERATION, *labels))

    def __len__(self) -> int:
        """The number of operations with a template."""
        return len(self._kept)

    def pieces(self, shown: Iterable[Operation], heads: Sequence[bytes], pace: Pace) -> Iterator[bytes]:
        """All families, each after its head, in pieces. `heads`: one per family, in the order of the reference."""
        families: list[list[tuple[_Lines, _Filling]]] = []
        for batch in self._batches(shown, pace):
            families.append(batch.families())
            pace.step()
        for number, head in enumerate(heads):
            yield head
            for family in families:
                lines, fillings = family[number]
                # Also where no line has a hole: labels have their `%` doubled in every template (`_line`).
                yield b"".join(lines) % fillings
                # Freed here, bit by bit. To free everything at the end would be one long step.
                family[number] = ((), ())
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
        if replaced is not before:  # a scrape that ran beside this one has replaced it
            self._let_go(replaced, pace)

    def _let_go(self, kept: dict[str, _Written], pace: Pace) -> None:
        """Free old templates in short steps too. A scrape that still reads them writes the missing ones again."""
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
        # Only a template with holes can be filled again. One without holes has the old numbers written into it.
        return _Written(operation, before.lines, filling) if filling and before.filling else self._write_anew(operation)

    def _write_anew(self, operation: Operation) -> _Written:
        filling = _filling(operation)
        return _Written(operation, self._lines(operation, holes=bool(filling)), filling)

    def _lines(self, operation: Operation, *, holes: bool) -> _Lines:
        # In alphabetical order with `state` and `status` behind them, as prometheus-client sorts the labels of a line.
        who = f'account="{escaped(operation.account)}",channel="{PUSH.name}",operation_id="{escaped(operation.id)}"'

        def count(value: int | None) -> str | None:
            return None if value is None else "%d.0" if holes else _number(value)

        def instant(path: str, value: Instant | None) -> str | None:
            return None if value is None else "%b" if holes and path in MOVING_INSTANTS else _seconds(value)

        states = [
            _line(MESSAGES[0], f'{who},state="{state}"', count(getattr(operation.stats, state))) for state in STATES
        ]
        return (
            b"".join(states),
            *[_line(name, who, count(read(operation))) for name, read in _COUNTS],
            *[_line(name, who, instant(path, getattr(operation, path))) for name, _, path in INSTANTS],
            _line(STATUS[0], f'{who},status="{operation.status}"', "1.0"),
            self._info(operation),
        )

    def _info(self, operation: Operation) -> bytes:
        """The info line. Labels of the user and of the watcher are sorted together by name, as in every line."""
        values = {**operation.labels, "account": operation.account, "channel": PUSH.name, "operation_id": operation.id}
        labels = [f'{name}="{escaped(values.get(name, ""))}"' for name in self._info_names]
        return _line(INFO[0], ",".join(labels), "1.0")


def _filling(operation: Operation) -> _Filling:
    """The numbers for the holes; empty if one of them cannot be filled in."""
    counts, updated_at, progressed_at = _counts_of(operation.stats), operation.updated_at, operation.progressed_at
    if None in counts or updated_at is None or progressed_at is None or max(counts) >= _PLAIN_BELOW:
        return ()
    return (*counts, _seconds_filled_in(updated_at), _seconds_filled_in(progressed_at))


@lru_cache(maxsize=1 << 12)
def _seconds_filled_in(instant: Instant) -> bytes:
    """Cached, because operations of one page share instants, and upstream writes whole seconds."""
    return _seconds(instant).encode()


_COUNTS = [(name, attrgetter(path)) for name, _, path in COUNTS]


def _line(name: str, labels: str, value: str | None) -> bytes:
    """The line as a template; empty without a value. A `%` in labels is doubled, or it would be taken for a hole."""
    return b"" if value is None else f"{name}{{{labels.replace('%', '%%')}}} {value}\n".encode()


def escaped(value: str) -> str:
    """The label value as written between its quotes."""
    # Intake refuses lone surrogates. If one comes another way, it must not break the whole scrape.
    value = value if value.isascii() else value.encode(errors="replace").decode()
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


_PLAIN_BELOW = 1_000_000
"""Numbers from here on are written with an exponent, as prometheus-client does."""

_TEN_DIGITS_FROM: Instant = 1_000_000_000 * SECOND
_TEN_DIGITS_UNTIL: Instant = 4_000_000_000 * SECOND
"""2001 to 2096: here each microsecond is a different floating-point number, so its digits are the shortest text."""


def sample_value(value: float) -> str:
    """The value as prometheus-client writes it."""
    return f"{float(value)}" if 0 <= value < _PLAIN_BELOW else _go_float(value)


def _number(value: int) -> str:
    return f"{value}.0" if 0 <= value < _PLAIN_BELOW else _go_float(value)


def _seconds(instant: Instant) -> str:
    # The text that prometheus-client makes of the float, for example 1.7e+09, but straight from the digits.
    if _TEN_DIGITS_FROM <= instant < _TEN_DIGITS_UNTIL:
        digits = str(instant)
        return f"{digits[0]}.{digits[1:]}".rstrip("0.") + "e+09"
    return _go_float(instant / SECOND)


def _go_float(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]
