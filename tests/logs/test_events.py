"""Events as lines: their keys and levels as the manual and dashboards know them, for programs and for people."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from tests.logs.piping import Pipe, piped
from watcher.core.account_health import AccountEvent, Began, HealthIssue, Recovered
from watcher.core.channels import Stats
from watcher.core.model import (
    SECOND,
    Corrected,
    Failing,
    Finished,
    Moved,
    Odd,
    OperationEvent,
    Outcome,
    Source,
    Status,
    Tracked,
    Untracked,
)
from watcher.logs import EventLog, LineWriter
from watcher.logs.events import fields_of, level_of, operation_fields

CLEAN, FAILED, UNREACHED = Stats(total=5, sent=5, failed=0, unaddressable=0), Stats(failed=1), Stats(unaddressable=2)


def moved(**changes: Any) -> Moved:
    given: dict[str, Any] = {
        "from_status": Status.SCHEDULED,
        "to_status": Status.PROCESSING,
        "stats": CLEAN,
        "updated_at": "2026-01-15T09:30:00.000Z",
        "delay_seconds": 1.5,
    }
    return Moved(**given | changes)


def finished(outcome: Outcome = Outcome.COMPLETED, stats: Stats = CLEAN) -> Finished:
    return Finished(outcome=outcome, stats=stats, duration_seconds=30.0)


def a_log(**settings: str) -> EventLog:
    return EventLog(LineWriter(-1), **settings)  # which is never written to: nothing is dropped in


@pytest.mark.parametrize(
    ("event", "name", "level", "keys"),
    [
        (Tracked(source=Source.API), "operation.tracked", "info", {"source"}),
        (Untracked(source=Source.API), "operation.untracked", "info", {"source"}),
        (
            moved(),
            "operation.moved",
            "info",
            {"from_status", "to_status", "stats", "updated_at", "delay_seconds"},
        ),
        (
            moved(
                from_status=None, to_status=Status.UNKNOWN, updated_at=None, delay_seconds=None, status_word="PAUSED"
            ),
            "operation.moved",
            "info",
            {"from_status", "to_status", "stats", "updated_at", "delay_seconds", "status_word"},
        ),
        (Failing(stats=FAILED), "operation.failing", "warning", {"stats"}),
        (finished(), "operation.finished", "info", {"outcome", "stats", "duration_seconds"}),
        (finished(stats=FAILED), "operation.finished", "warning", {"outcome", "stats", "duration_seconds"}),
        (finished(stats=UNREACHED), "operation.finished", "warning", {"outcome", "stats", "duration_seconds"}),
        (finished(Outcome.CANCELED), "operation.finished", "warning", {"outcome", "stats", "duration_seconds"}),
        (finished(Outcome.EXPIRED), "operation.finished", "warning", {"outcome", "stats", "duration_seconds"}),
        (Corrected(stats=FAILED, before=CLEAN), "operation.corrected", "warning", {"stats", "before"}),
        (Corrected(stats=UNREACHED, before=CLEAN), "operation.corrected", "warning", {"stats", "before"}),
        (Corrected(stats=CLEAN, before=FAILED), "operation.corrected", "info", {"stats", "before"}),
        (Odd(kind="stale_answer"), "operation.odd", "info", {"kind"}),
        (Odd(kind="failure_status", detail="FAILED"), "operation.odd", "warning", {"kind", "detail"}),
        (Odd(kind="forbidden"), "operation.odd", "warning", {"kind"}),
        (Odd(kind="unknown_status", detail="PAUSED"), "operation.odd", "info", {"kind", "detail"}),
    ],
)
def test_an_event_of_an_operation_has_its_name_level_and_keys(
    event: OperationEvent, name: str, level: str, keys: set[str]
):
    assert level_of(event) == level
    assert fields_of(event).keys() - {"event"} == keys
    assert fields_of(event)["event"] == name


def test_an_unknown_value_is_null_and_a_stat_that_was_never_received_is_absent():
    fields = fields_of(moved(from_status=None, stats=Stats(sent=0), updated_at=None, delay_seconds=None))
    assert (fields["from_status"], fields["updated_at"], fields["delay_seconds"]) == (None, None, None)
    assert fields["stats"] == {"sent": 0}


def test_every_event_of_an_operation_has_account_id_labels_and_sequence():
    fields = operation_fields(
        account="main",
        operation_id="comms_operation_1",
        labels={"campaign": "spring"},
        event_id="019a28f4-1c5b-7000-8000-000000000003",
        seq=3,
        occurred_at=1_790_000_000 * SECOND + 123_456,
        replayed=True,
    )
    assert fields == {
        "account": "main",
        "operation_id": "comms_operation_1",
        "labels": {"campaign": "spring"},
        "event_id": "019a28f4-1c5b-7000-8000-000000000003",
        "seq": 3,
        "occurred_at": "2026-09-21T14:13:20.123Z",
        "replayed": True,
    }


def test_a_line_is_one_json_object_that_begins_with_timestamp_level_and_event():
    line = a_log().line("operation.odd", "info", {"kind": "two\nlines", "number": 1.5, "other": Status.UNSEEN})
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    found = json.loads(line)
    assert list(found) == ["timestamp", "level", "event", "kind", "number", "other"]
    assert (found["level"], found["event"], found["kind"]) == ("info", "operation.odd", "two\nlines")
    assert found["timestamp"].endswith("Z")
    assert datetime.fromisoformat(found["timestamp"]).utcoffset() is not None


class WrittenEvents:
    """A log on a pipe, and the lines that came through."""

    def __init__(self, pipe: Pipe, **settings: str) -> None:
        self._pipe = pipe
        self._writer = LineWriter(pipe.writing)
        self.log = EventLog(self._writer, **settings)

    def lines(self) -> list[bytes]:
        self._writer.drop_in(b"end\n")
        written = b""
        while not written.endswith(b"end\n"):
            written += self._pipe.read(1)
        return written.splitlines()[:-1]

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines()]


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (
            Began(issue=HealthIssue.THROTTLED, why="HTTP 429"),
            {"level": "warning", "event": "account.throttled", "account": "main", "reason": "HTTP 429"},
        ),
        (
            Began(issue=HealthIssue.UNREACHABLE, why="no answer within 10 s"),
            {
                "level": "warning",
                "event": "account.unreachable",
                "account": "main",
                "reason": "no answer within 10 s",
            },
        ),
        (
            Began(issue=HealthIssue.UNAUTHORIZED, why="HTTP 401"),
            {"level": "warning", "event": "account.unauthorized", "account": "main", "reason": "HTTP 401"},
        ),
        (
            Recovered(issue=HealthIssue.UNAUTHORIZED, lasted=91_844_000),
            {
                "level": "info",
                "event": "account.recovered",
                "account": "main",
                "trouble": "unauthorized",
                "lasted_seconds": 91.844,
            },
        ),
    ],
)
def test_begin_and_end_of_an_issue_of_an_account_are_events(event: AccountEvent, fields: dict[str, Any]):
    with piped() as pipe:
        written = WrittenEvents(pipe)
        written.log.account_event("main", event)
        (found,) = written.events()
    assert {key: value for key, value in found.items() if key != "timestamp"} == fields


def test_events_are_written_at_every_level_and_other_lines_by_the_level():
    with piped() as pipe:
        written = WrittenEvents(pipe, level="error")
        written.log.event("config.reloaded", accounts=["main"])
        written.log.about_itself.info("api.attempted")
        written.log.about_itself.error("request.failed")
        written.log.adopt(level="debug", form="json")
        written.log.about_itself.debug("api.attempted", account="main", seconds=0.25)
        events = written.events()
    assert [(event["event"], event["level"]) for event in events] == [
        ("config.reloaded", "info"),
        ("request.failed", "error"),
        ("api.attempted", "debug"),
    ]
    assert list(events[2]) == ["timestamp", "level", "event", "account", "seconds"]
    assert events[2]["timestamp"].endswith("Z")


def test_an_unexpected_exception_is_written_with_its_traceback_in_one_line():
    def fail() -> None:
        message = "it broke"
        raise ValueError(message)

    with piped() as pipe:
        written = WrittenEvents(pipe)
        try:
            fail()
        except ValueError as exc:
            written.log.about_itself.critical("daemon.died", exc_info=exc)
            written.log.adopt(level="info", form="console")
            written.log.about_itself.critical("daemon.died", exc_info=exc)
        one, two = written.lines()
    assert json.loads(one)["exception"].endswith("ValueError: it broke")
    assert b"| Traceback (most recent call last): |" in two
    assert two.endswith(b"ValueError: it broke")


def test_for_people_a_line_is_flat_and_leaves_out_what_only_programs_need():
    fields = operation_fields(
        account="main",
        operation_id="comms_operation_01h9krwprkeee8fzqspvwy6nq8x",
        labels={"campaign": "spring"},
        event_id="019a28f4-1c5b-7000-8000-000000000003",
        seq=3,
        occurred_at=0,
        replayed=False,
    ) | {"outcome": "completed", "stats": {"total": 5, "sent": 4, "failed": 1, "canceled": 0}, "duration_seconds": 30.0}
    line = a_log(form="console").line("operation.finished", "warning", fields).decode()
    time, rest = line.split(" ", 1)
    assert datetime.strptime(time, "%H:%M:%S.%f").date() == datetime(1900, 1, 1).date()  # noqa: DTZ001, DTZ007
    assert rest.split() == [
        "[warning]",
        "operation.finished",
        "…wy6nq8x",
        "outcome=completed",
        "account=main",
        "campaign=spring",
        "sent=4",
        "failed=1",
        "duration_seconds=30.0",
    ]


def test_for_people_a_move_is_a_single_word_and_a_label_cannot_pass_for_it():
    moved = {"from_status": "PROCESSING", "to_status": "COMPLETED", "labels": {"status": "FAILED"}}
    line = a_log(form="console").line("operation.moved", "info", moved).decode()
    assert line.split()[2:] == ["operation.moved", "status=PROCESSING→COMPLETED"]
    line = (
        a_log(form="console").line("operation.moved", "info", {"from_status": None, "to_status": "SCHEDULED"}).decode()
    )
    assert line.split()[2:] == ["operation.moved", "status=SCHEDULED"]


def test_for_people_a_replayed_event_is_marked_and_other_counts_are_named():
    fields = {"replayed": True, "stats": {"failed": 2}, "before": {"failed": 1, "sent": 0}}
    line = a_log(form="console").line("operation.corrected", "warning", fields).decode()
    assert line.split()[2:] == ["operation.corrected", "replayed=True", "failed=2", "before.failed=1"]


def test_a_label_cannot_imitate_an_event():
    fields = {"account": "main", "labels": {"event": "operation.finished", "account": "x", "outcome": "completed"}}
    line = a_log(form="console").line("operation.tracked", "info", fields).decode()
    assert line.split()[2:] == ["operation.tracked", "outcome=completed", "account=main"]


@pytest.mark.parametrize("name", ["campaign", "stack", "exception", "logger", "exc_info"])
def test_control_characters_in_labels_do_not_reach_a_terminal(name: str):
    line = a_log(form="console").line("operation.tracked", "info", {"labels": {name: "\x1b[2J\r\n"}, "source": "api"})
    assert line[:-1].decode().isprintable()
    assert line.count(b"\n") == 1
