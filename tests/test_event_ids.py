"""Ids of events are UUIDv7: the time of the event, and random bits."""

from __future__ import annotations

from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from watcher.event_ids import new_event_id, uuid7

AT = 1_768_469_400_123_456


@given(at=st.integers(0, 1000 * (2**48 - 1)), random_bits=st.integers(0, 2**80 - 1))
def test_an_id_is_a_uuid_of_version_7_with_the_time_of_its_event(at: int, random_bits: int):
    text = uuid7(at, random_bits)
    event_id = UUID(text)
    assert (event_id.version, event_id.variant) == (7, RFC_4122)
    assert str(event_id) == text
    assert event_id.int >> 80 == at // 1000


def test_a_time_before_1970_counts_as_1970():
    assert uuid7(-1, 0) == uuid7(0, 0) == "00000000-0000-7000-8000-000000000000"


def test_two_ids_of_one_instant_differ():
    assert len({new_event_id(AT) for _ in range(1000)}) == 1000
