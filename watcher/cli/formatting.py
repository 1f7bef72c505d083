"""Formats operations of the API as text. Decoded leniently, since a daemon may be newer than its client."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from watcher.core.channels import BAR, PUSH, StatKind, Stats
from watcher.core.printable import printable

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_COMMON = frozenset({"event", "event_id", "seq", "occurred_at"})


class NextPoll(msgspec.Struct, frozen=True):
    """When, how and why an operation is polled next."""

    at: datetime
    in_seconds: float
    how: str = ""
    why: str = ""


class Operation(msgspec.Struct, frozen=True):
    """One operation; in the answer to `show` with its history and its next poll."""

    account: str
    id: str
    status: str
    status_word: str | None = None
    phase: str = ""
    outcome: str | None = None
    source: str = ""
    labels: Mapping[str, str] = {}
    stats: Stats = Stats()
    registered_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    progressed_at: datetime | None = None
    ended_at: datetime | None = None
    final_at: datetime | None = None
    history: list[dict[str, Any]] = []
    next_poll: NextPoll | None = None

    @property
    def is_final(self) -> bool:
        """Whether it is not polled any more."""
        return self.phase == "final"


def counted(count: int, noun: str) -> str:
    """Return `1 operation`, `2 operations`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def status_words(operation: Operation) -> str:
    """Return the status; for an unknown status, with upstream's own word."""
    return (
        operation.status
        if operation.status_word is None
        else f"{operation.status} ({printable(operation.status_word)})"
    )


def sent_words(stats: Stats) -> str:
    """Return `40 of 100`; empty if the number sent was not received yet."""
    if stats.sent is None:
        return ""
    return f"{stats.sent:,}" if stats.total is None else f"{stats.sent:,} of {stats.total:,}"


def stats_words(stats: Stats) -> str:
    """Return the stats in one line. Absent stats are left out, and so are zeros, except for the number sent."""
    sent = sent_words(stats)
    parts = [f"{sent} sent"] if sent else []
    parts += [f"{value:,} {name}" for name in BAR if name != "sent" and (value := getattr(stats, name))]
    of = "" if stats.recipients is None else f" of {counted(stats.recipients, 'recipient')}"
    parts += [
        f"{value:,}{of} {field.name}"
        for field in PUSH.fields
        if field.is_failure and field.kind is StatKind.RECIPIENTS and (value := getattr(stats, field.name))
    ]
    return ", ".join(parts) or "no stats yet"


def labels_words(labels: Mapping[str, str]) -> str:
    """Return `key=value` for each label."""
    return printable(", ".join(f"{key}={value}" for key, value in labels.items()))


def instant_words(instant: datetime | None) -> str:
    """Return `2026-01-15 09:30:00 UTC`; empty for None."""
    return "" if instant is None else f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def ago_words(instant: datetime | None, now: datetime) -> str:
    """Return `12 s ago`; empty for None."""
    return "" if instant is None else f"{wait_words(max((now - instant).total_seconds(), 0.0))} ago"


def wait_words(seconds: float) -> str:
    """Return `12 s`, `3 min`, `5 h` or `2 d`: rounded down to one unit."""
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit:.0f} {name}"
    return f"{seconds:.0f} s"


def next_poll_words(operation: Operation) -> str:
    """Return when, how and why the operation is polled next."""
    next_poll = operation.next_poll
    if next_poll is None:
        return "none, its stats are final" if operation.is_final else "not planned yet"
    wait = (
        f"in {next_poll.in_seconds:.1f} s" if next_poll.in_seconds >= 0 else f"due since {-next_poll.in_seconds:.1f} s"
    )
    return f"{wait} ({instant_words(next_poll.at)}), by {printable(next_poll.how)}: {printable(next_poll.why)}"


def entry_words(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return time, name and details of one event of a history."""
    rest = {name: value for name, value in entry.items() if name not in _COMMON and value is not None}
    at = msgspec.convert(entry.get("occurred_at"), datetime | None)
    return instant_words(at), printable(str(entry.get("event", ""))), _details(rest)


def _details(rest: Mapping[str, Any]) -> str:
    parts = []
    if "to_status" in rest:
        parts.append(f"{rest.get('from_status', 'UNSEEN')} to {rest['to_status']}")
    parts += [_detail(name, value) for name, value in rest.items() if name not in {"from_status", "to_status"}]
    return printable(", ".join(part for part in parts if part))


def _detail(name: str, value: object) -> str:
    if isinstance(value, dict):
        words = stats_words(msgspec.convert(value, Stats))
        return words if name == "stats" else f"{name}: {words}"
    if name == "updated_at":
        return ""  # the event's own time is shown already
    named = {"outcome": "", "kind": "", "detail": ""}
    return f"{named.get(name, name + ' ')}{value}"
