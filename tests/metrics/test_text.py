"""The kept text of operations against what prometheus-client writes of the same operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.exposition import generate_latest as plain
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.registry import Collector

from tests.support.factories import NOW, a_final_operation, a_running_operation, an_id, an_operation, at
from tests.support.strategies import unhurried
from watcher.core.channels import STAT_NAMES, Stats
from watcher.core.model import SECOND, Operation, Source, Status
from watcher.core.snapshot import AccountSnapshot
from watcher.metrics.census import CensusCollector
from watcher.metrics.exposition import heads_of
from watcher.metrics.text import BATCH, OperationText, Pace

LABELS = ("aaa", "campaign", "zone")
ENCODERS = pytest.mark.parametrize("encode", [plain, openmetrics], ids=["plain", "openmetrics"])


class OnlyOperations(Collector):
    """The families of operations as prometheus-client collects them."""

    def __init__(self, shown: Sequence[Operation], labels: Sequence[str]) -> None:
        self._census = CensusCollector([AccountSnapshot(account="", taken=at(), shown=shown)], labels=labels)

    def collect(self) -> Any:
        return self._census.operations()


def reference(encode: Any, shown: Sequence[Operation], labels: Sequence[str] = LABELS) -> bytes:
    text: bytes = encode(OnlyOperations(shown, labels))
    return text.removesuffix(b"# EOF\n")


def written(text: OperationText, encode: Any, shown: Sequence[Operation]) -> bytes:
    return b"".join(text.pieces(shown, heads_of(encode, text.labels), Pace()))


awkward = st.text(max_size=6) | st.text(alphabet='\\"\n{},= %aé\u2028', max_size=6)
counts = st.none() | st.integers(0, 12) | st.integers(0, 2**53) | st.sampled_from([999_999, 10**6, 10**6 + 1, 10**16])
instants = (
    st.none()
    | st.integers(0, 2**53)
    | st.integers(NOW - SECOND, NOW + SECOND)
    | st.sampled_from([0, 10**15 - 1, 10**15, 10**15 + 10**9, 4 * 10**15 - 1, 4 * 10**15, 999_999 * SECOND])
)
operations = st.builds(
    Operation,
    account=awkward,
    id=awkward,
    source=st.just(Source.API),
    registered_at=st.just(NOW),
    labels=st.dictionaries(st.sampled_from([*LABELS, "hidden"]), awkward),
    status=st.sampled_from(Status),
    stats=st.builds(Stats, **dict.fromkeys(STAT_NAMES, counts)),
    created_at=instants,
    updated_at=instants,
    progressed_at=instants,
    ended_at=instants,
)
candidates_by_account = st.lists(operations, max_size=5, unique_by=lambda operation: operation.id)


@pytest.mark.unmeasured
@unhurried
@given(
    turns=st.lists(candidates_by_account, min_size=1, max_size=3),
    labels=st.sampled_from([(), LABELS, LABELS[1:2]]),
    encode=st.sampled_from([plain, openmetrics]),
)
@example(turns=[[an_operation(), a_final_operation(id=an_id(1))]], labels=(), encode=plain)
@example(turns=[[a_running_operation(labels={"campaign": '\\n"\n'})]], labels=LABELS, encode=openmetrics)
def test_the_text_is_what_prometheus_client_writes(turns: list[list[Operation]], labels: tuple[str, ...], encode: Any):
    text = OperationText(labels)
    for shown in turns:
        assert written(text, encode, shown) == reference(encode, shown, labels)


@unhurried
@given(first=operations, second=operations, encode=st.sampled_from([plain, openmetrics]))
def test_the_text_is_the_same_after_any_change(first: Operation, second: Operation, encode: Any):
    text = OperationText(LABELS)
    written(text, encode, [first])
    later = second.with_(id=first.id)
    assert written(text, encode, [later]) == reference(encode, [later])
    # A change of a single family.
    names = ("account", "labels", "status", "stats", "created_at", "updated_at", "progressed_at", "ended_at")
    for name in names:
        later = later.with_(**{name: getattr(first, name)})
        assert written(text, encode, [later]) == reference(encode, [later])


@ENCODERS
def test_the_text_is_the_same_across_pieces(encode: Any):
    many = [a_running_operation(id=an_id(number)) for number in range(2 * BATCH + 1)]
    text = OperationText()
    pieces = list(text.pieces(many, heads_of(encode, ()), Pace()))
    assert b"".join(pieces) == reference(encode, many, ())
    assert max(map(len, pieces)) < 1024 * BATCH


@unhurried
@given(st.integers(0, 2**53))
def test_an_instant_is_written_as_the_library_does(instant: int):
    operation = an_operation(created_at=instant)
    assert written(OperationText(), plain, [operation]) == reference(plain, [operation], ())


def test_of_an_operation_that_changed_only_numbers_are_written_again(monkeypatch: pytest.MonkeyPatch):
    text, stats = OperationText(LABELS), Stats(**dict.fromkeys(STAT_NAMES, 7))
    operation = a_running_operation(stats=stats, labels={"campaign": "welcome"})
    written(text, plain, [operation])
    monkeypatch.setattr("watcher.metrics.text.escaped", lambda value: pytest.fail(f"{value} is written again"))
    sent = operation.with_(stats=msgspec.structs.replace(operation.stats, sent=4321), updated_at=NOW + SECOND)
    for later in (operation, operation.with_(asked_tick=7), sent, sent.with_(progressed_at=NOW + SECOND)):
        assert written(text, plain, [later]) == reference(plain, [later])


def test_only_what_is_shown_is_kept():
    text = OperationText()
    many = [a_running_operation(id=an_id(number)) for number in range(10)]
    written(text, plain, many)
    assert len(text) == 10
    written(text, plain, many[:3])
    assert len(text) == 3
    written(text, plain, [])
    assert len(text) == 0


def test_scrapes_may_overlap():
    text = OperationText()
    many = [a_running_operation(id=an_id(number)) for number in range(2 * BATCH)]
    slow = text.pieces(many, heads_of(plain, ()), Pace())
    pieces = [next(slow)]
    assert written(text, plain, many[:1]) == reference(plain, many[:1], ())
    assert b"".join([*pieces, *slow]) == reference(plain, many, ())


def test_a_label_that_utf_8_cannot_encode_does_not_break_the_scrape():
    operation = a_running_operation(labels={"campaign": "x\ud800y"})
    assert b'campaign="x?y"' in written(OperationText(("campaign",)), plain, [operation])


def test_a_thread_pauses_after_long_work():
    now, rests = 0.0, list[float]()
    pace = Pace(now=lambda: now, rest=lambda _: rests.append(now))
    for now in (0.0005, 0.0011, 0.0015, 0.0022):  # noqa: B007 -- the clock reads it
        pace.step()
    assert rests == [0.0011, 0.0022]
