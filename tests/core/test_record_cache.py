"""Rows that come again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import unhurried
from watcher.core.observation import Record
from watcher.core.record_cache import ROW_AT_MOST, RecordCache
from watcher.core.wire import read_record


def test_a_row_that_comes_again_is_not_read_again():
    read: list[bytes] = []

    def reading(row: bytes) -> Record:
        read.append(row)
        return Record(id=row.decode())

    rows = RecordCache(reading, at_most=2)
    for row in (b"a", b"b", b"a", b"c", b"a", b"b", b"d", b"e", b"d"):
        assert rows.record(row) == Record(id=row.decode())
    assert read == [b"a", b"b", b"c", b"d", b"e"]
    assert len(rows) <= 4


def test_a_row_that_stays_away_is_forgotten():
    read: list[bytes] = []

    def reading(row: bytes) -> Record:
        read.append(row)
        return Record()

    rows = RecordCache(reading, at_most=1)
    for row in (b"a", b"b", b"c", b"a"):
        rows.record(row)
    assert read == [b"a", b"b", b"c", b"a"]


def test_what_is_no_row_or_a_giant_one_is_not_remembered():
    rows = RecordCache(read_record)
    assert rows.record(b"[]") is None
    assert rows.record(b'{"id": "' + b"x" * ROW_AT_MOST + b'"}') is not None
    assert len(rows) == 0


@unhurried
@given(st.lists(st.sampled_from([b'{"id": "a"}', b'{"id": "b"}', b"{}", b"null", b"{"]), max_size=30))
def test_what_is_remembered_is_what_is_read(rows: list[bytes]):
    known = RecordCache(read_record, at_most=2)
    assert [known.record(row) for row in rows] == [read_record(row) for row in rows]
