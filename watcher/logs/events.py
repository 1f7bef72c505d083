"""Events as log lines. Names are dotted and in the past tense; a thing has the same key in every event.

Events are written at every `log.level`. It applies only to the other lines, which the watcher writes about itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, assert_never

import msgspec
import structlog

from watcher.core.account_health import AccountEvent, Began, Recovered
from watcher.core.lifecycle import means_failure
from watcher.core.model import (
    SECOND,
    Corrected,
    Failing,
    Finished,
    Instant,
    Moved,
    Odd,
    OperationEvent,
    Outcome,
    Tracked,
    Untracked,
    rfc3339,
)
from watcher.core.printable import printable
from watcher.logs.lines import LineWriter

_encoder = msgspec.json.Encoder(enc_hook=str)


class _Sink:
    """Receives the rendered lines of structlog."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def msg(self, line: str | bytes) -> None:
        """Write a line, given without its line break."""
        self._writer.drop_in((line if isinstance(line, bytes) else line.encode()) + b"\n")

    debug = info = warning = error = critical = exception = msg


class EventLog:
    """Renders events as lines and writes them."""

    def __init__(self, writer: LineWriter, *, level: str = "info", form: str = "json") -> None:
        self._writer = writer
        self.adopt(level=level, form=form)

    def adopt(self, *, level: str, form: str) -> None:
        """Use the operator's `log.level` and `log.format` from now on."""
        self._render = _renderer(form)
        self.about_itself: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
            _Sink(self._writer),
            wrapper_class=structlog.make_filtering_bound_logger(level),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                self._render_processor,
            ],
        )

    def event(self, name: str, /, level: str = "info", **fields: object) -> None:
        """Write an event that does not belong to an operation, at every `log.level`."""
        self._writer.drop_in(self.line(name, level, fields))

    def account_event(self, account: str, event: AccountEvent) -> None:
        """Write that a problem of an account began or ended."""
        match event:
            case Began(issue=issue, why=why):
                self.event(f"account.{issue}", "warning", account=account, reason=why)
            case Recovered(issue=issue, lasted=lasted):
                seconds = round(lasted / SECOND, 3)
                self.event("account.recovered", account=account, trouble=str(issue), lasted_seconds=seconds)
            case _:
                assert_never(event)

    def line(self, name: str, level: str, fields: Mapping[str, object]) -> bytes:
        """The rendered line, with its line break."""
        timestamp = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        return self._render({"timestamp": timestamp, "level": level, "event": name, **fields}) + b"\n"

    def _render_processor(self, _: object, __: str, event_dict: MutableMapping[str, Any]) -> bytes:
        first = {key: event_dict.pop(key) for key in ("timestamp", "level", "event")}
        return self._render({**first, **event_dict})


def _renderer(form: str) -> Callable[[dict[str, object]], bytes]:
    """The function that renders fields as a line without its line break."""
    if form == "json":
        return _encoder.encode
    console = structlog.dev.ConsoleRenderer(
        colors=False,
        sort_keys=False,
        pad_event_to=_EVENT_WIDTH,
        pad_level=False,
        exception_formatter=structlog.dev.plain_traceback,
    )
    # A terminal must not obey what an app put into a label, and an event is one line.
    return lambda fields: printable(str(console(None, "", _for_people(fields))).replace("\n", " | ")).encode()


def _for_people(fields: Mapping[str, object]) -> dict[str, object]:
    """The fields for the console format.

    Flat, the most important ones first, without empty values and without fields that only programs need.
    """
    flat: dict[str, object] = {}
    for key, value in fields.items():
        if not isinstance(value, Mapping):
            flat[key] = value
        elif key == "labels":
            # A label of the app may be called `event`, and must not replace the event's own key.
            flat |= {name: text for name, text in value.items() if name not in fields}
        else:
            prefix = "" if key == "stats" else f"{key}."
            # The total is what is left of the recipients without those that are unaddressable.
            flat |= {f"{prefix}{name}": count for name, count in value.items() if count and name != "total"}
    if (to_status := flat.pop("to_status", None)) is not None:
        from_status = flat.pop("from_status", None)
        flat["status"] = f"{from_status}→{to_status}" if from_status else to_status
    # An id has 42 characters, and its last ones distinguish operations. The JSON format has the whole id.
    if isinstance(operation_id := flat.pop("operation_id", None), str):
        flat["event"] = f"{flat['event']:<{_EVENT_WIDTH}} …{operation_id[-_ID_SHOWN:]}"
    first = {key: flat[key] for key in _FIRST if key in flat}
    shown = {
        key: value for key, value in (first | flat).items() if key not in _FOR_PROGRAMS and value not in (None, False)
    }
    return shown | {"timestamp": str(fields["timestamp"])[11:23]}


_EVENT_WIDTH = 18
_ID_SHOWN = 7
_FIRST = ("status", "outcome")
_FOR_PROGRAMS = frozenset({"event_id", "seq", "occurred_at", "updated_at"})


_ODD_WARNINGS = frozenset({"failure_status", "forbidden"})
"""Anomalies of an operation that may need action by a person."""


def level_of(event: OperationEvent) -> str:
    """`warning` for events that may deserve an alert, `info` for the rest."""
    match event:
        case Failing():
            return "warning"
        case Finished(outcome=outcome, stats=stats):
            return "warning" if stats.has_failures or outcome is not Outcome.COMPLETED else "info"
        case Corrected(stats=stats, before=before):
            return "warning" if stats.fails_more_than(before) else "info"
        case Moved(status_word=word):
            return "warning" if means_failure(word) else "info"
        case Odd(kind=kind):
            return "warning" if kind in _ODD_WARNINGS else "info"
        case Tracked() | Untracked():
            return "info"
        case _:
            assert_never(event)


def fields_of(event: OperationEvent) -> dict[str, object]:
    """The event's own keys, `event` (its name) among them."""
    fields: dict[str, object] = msgspec.to_builtins(event)
    if isinstance(event, Moved) and event.status_word is None:
        del fields["status_word"]
    if isinstance(event, Odd) and event.detail is None:
        del fields["detail"]
    return fields


def operation_fields(
    *,
    account: str,
    operation_id: str,
    labels: Mapping[str, str],
    event_id: str,
    seq: int,
    occurred_at: Instant,
    replayed: bool,
) -> dict[str, object]:
    """The keys that every event of an operation carries."""
    return {
        "account": account,
        "operation_id": operation_id,
        "labels": dict(labels),
        "event_id": event_id,
        "seq": seq,
        "occurred_at": rfc3339(occurred_at),
        "replayed": replayed,
    }
