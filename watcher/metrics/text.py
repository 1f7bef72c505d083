"""The series of operations as text, kept from scrape to scrape.

An operation is immutable: while it is the same object, its text is the same, and when another took its place, only the
families whose values differ are written again. What is kept is never more than what was shown last. Gauges read alike
in both formats; only the heads of families differ, and those are given. `census` is the reference: what is written
here is byte for byte what prometheus-client writes of it.

All of this runs in a thread beside the event loop, so it takes short steps and rests between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, TypeAlias, cast

import msgspec
from prometheus_client.utils import floatToGoString

from watcher.core.model import SECOND, Instant, Operation, Status
from watcher.metrics.census import COUNTS, INFO, INSTANTS, NOTIFICATIONS, PER_OPERATION, STATES, STATUS

BATCH = 500
"""Operations whose lines are joined in one go: at most 300 kB a family."""

WRITTEN_AT_ONCE = 20
"""Operations that are written between two looks at the time."""

STEP_SECONDS = 0.002
"""So long the thread works before it lets go of the interpreter. Asked for it by another thread it would do so too, but
only after 5 ms."""

REST_SECONDS = 0.000_05
"""Long enough for a thread that waits for the interpreter to get it."""

_Who: TypeAlias = str
_Values: TypeAlias = tuple[Any, ...]
_Lines: TypeAlias = tuple[bytes, ...]
_Writer: TypeAlias = Callable[[_Who, Any], bytes]


class _Written(msgspec.Struct, frozen=True, gc=False):
    """An operation and its lines: one text a family, empty where the operation has none. `values` are what they say."""

    operation: Operation
    who: _Who
    values: _Values
    lines: _Lines


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
        self._writers: Sequence[_Writer] = (
            _notifications,
            *(partial(_count, name) for name, _, _ in COUNTS),
            *(partial(_instant, name) for name, _, _ in INSTANTS),
            _status,
        )
        self._info_names = sorted((*PER_OPERATION, *labels))

    def __len__(self) -> int:
        """Of how many operations text is kept."""
        return len(self._kept)

    def pieces(self, shown: Iterable[Operation], heads: Sequence[bytes], pace: Pace) -> Iterator[bytes]:
        """Every family behind its head, in pieces. `heads` are as many as families, in the order of the reference."""
        batches: list[list[_Lines]] = [[*zip(*batch, strict=True)] for batch in self._batches(shown, pace)]
        for number, head in enumerate(heads):
            yield head
            for batch in batches:
                yield b"".join(batch[number])
                batch[number] = ()  # let go of it here, for all at the end would be a long step
                pace.step()

    def _batches(self, shown: Iterable[Operation], pace: Pace) -> Iterator[Sequence[_Lines]]:
        before = self._kept
        kept: dict[str, _Written] = {}
        batch: list[_Lines] = []
        changes = 0
        for operation in shown:
            written = before.get(operation.id)
            if written is None or written.operation is not operation:
                written = self._write(operation, written)
                changes += 1
                if changes % WRITTEN_AT_ONCE == 0:
                    pace.step()
            kept[operation.id] = written
            batch.append(written.lines)
            if len(batch) == BATCH:
                yield batch
                batch = []
                pace.step()
        if batch:
            yield batch
        self._kept = kept
        self._let_go(before, pace)

    def _let_go(self, kept: dict[str, _Written], pace: Pace) -> None:
        """Free what was kept before, in short steps too. A scrape that still reads it writes anew what it misses."""
        for number, operation_id in enumerate(tuple(kept)):
            kept.pop(operation_id, None)
            if number % BATCH == 0:
                pace.step()

    def _write(self, operation: Operation, before: _Written | None) -> _Written:
        if before is not None and _shows_the_same(operation, before.operation):
            return _Written(operation, before.who, before.values, before.lines)
        values = _values(operation)
        if before is None or before.operation.account != operation.account:
            who = f'account="{escaped(operation.account)}",operation_id="{escaped(operation.id)}"'
            written = [write(who, value) for write, value in zip(self._writers, values, strict=True)]
            return _Written(operation, who, values, (*written, self._info(operation)))
        lines = [*before.lines]
        for number, (value, was) in enumerate(zip(values, before.values, strict=True)):
            if value != was:
                lines[number] = self._writers[number](before.who, value)
        if operation.labels != before.operation.labels:
            lines[-1] = self._info(operation)
        return _Written(operation, before.who, values, tuple(lines))

    def _info(self, operation: Operation) -> bytes:
        """The user's labels stand among ours by name, as labels do in every line."""
        values = {**operation.labels, "account": operation.account, "operation_id": operation.id}
        labels = ",".join([f'{name}="{escaped(values.get(name, ""))}"' for name in self._info_names])
        return f"{INFO[0]}{{{labels}}} 1.0\n".encode()


# ── the values of an operation, one a family, and how each is written ─────────────────────────────────────────────────

_notifications_of = attrgetter(*STATES)
_others_of = attrgetter(*(path for _, _, path in (*COUNTS, *INSTANTS)), "status")


_instants_of = attrgetter(*(path for _, _, path in INSTANTS))


def _shows_the_same(operation: Operation, before: Operation) -> bool:
    """Whether a look changed nothing of what is written: most looks do not."""
    return (
        operation.stats == before.stats
        and operation.status is before.status
        and _instants_of(operation) == _instants_of(before)
        and operation.account == before.account
        and operation.labels == before.labels
    )


def _values(operation: Operation) -> _Values:
    return (_notifications_of(operation.stats), *_others_of(operation))


def _notifications(who: _Who, values: Sequence[int | None]) -> bytes:
    if None not in values and max(cast("Sequence[int]", values)) < _PLAIN_BELOW:
        scheduled, queued, sent, failed, canceled = values
        return (_IN_EVERY_STATE % (who, scheduled, who, queued, who, sent, who, failed, who, canceled)).encode()
    lines = zip(_IN_STATE, values, strict=True)
    return "".join([line % (who, _number(value)) for line, value in lines if value is not None]).encode()


_IN_STATE = [f'{NOTIFICATIONS[0]}{{%s,state="{state}"}} %s\n' for state in STATES]
_IN_EVERY_STATE = "".join([f'{NOTIFICATIONS[0]}{{%s,state="{state}"}} %d.0\n' for state in STATES])


def _count(name: str, who: _Who, value: int | None) -> bytes:
    return b"" if value is None else f"{name}{{{who}}} {_number(value)}\n".encode()


def _instant(name: str, who: _Who, value: Instant | None) -> bytes:
    return b"" if value is None else f"{name}{{{who}}} {_seconds(value)}\n".encode()


def _status(who: _Who, value: Status) -> bytes:
    return f'{STATUS[0]}{{{who},status="{value}"}} 1.0\n'.encode()


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


def _number(value: int) -> str:
    return f"{value}.0" if 0 <= value < _PLAIN_BELOW else _go_float(value)


def _seconds(instant: Instant) -> str:
    if _TEN_DIGITS_FROM <= instant < _TEN_DIGITS_UNTIL:
        digits = str(instant)
        return f"{digits[0]}.{digits[1:]}".rstrip("0.") + "e+09"
    return _go_float(instant / SECOND)


def _go_float(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]
