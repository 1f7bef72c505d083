"""What a loop holds: the counts that are kept agree with those that are counted."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.support.factories import (
    NOW,
    a_final_operation,
    a_running_operation,
    a_settling_operation,
    an_id,
    an_operation,
)
from tests.support.strategies import unhurried
from watcher.core.census import Retention, is_retired
from watcher.core.model import MINUTE, Operation, Status
from watcher.watch.operation_table import OperationTable

RETENTION = Retention(hold=MINUTE)

operations = st.builds(
    lambda make, number, status, scraped_at: make(id=an_id(number), status=status, scraped_at=scraped_at),
    st.sampled_from([an_operation, a_running_operation, a_settling_operation, a_final_operation]),
    st.integers(0, 4),
    st.sampled_from(Status),
    st.sampled_from([None, NOW - 2 * MINUTE, NOW]),
)


@unhurried
@given(st.lists(operations | st.integers(0, 4).map(an_id), max_size=20))
def test_counts_are_kept_as_operations_come_change_and_go(steps: list[Operation | str]):
    table, held = OperationTable(), dict[str, Operation]()
    for step in steps:
        if isinstance(step, str):
            table.drop(step)
            held.pop(step, None)
        else:
            table.put(step)
            held[step.id] = step
        assert list(table) == list(held.values())
        unfinished = [operation for operation in held.values() if operation.final_at is None]
        counted = Counter(operation.status.value for operation in unfinished)
        assert table.statuses == {status.value: counted[status.value] for status in Status}
        assert table.unfinished == len(unfinished)
        assert {operation.id for operation in table.finals} == held.keys() - {operation.id for operation in unfinished}
        assert table.candidates(NOW, RETENTION) == [
            operation for operation in held.values() if not is_retired(operation, NOW, RETENTION)
        ]
        assert len(table) == len(held)
        assert all(operation_id in table and table.get(operation_id) is held[operation_id] for operation_id in held)


def test_a_newer_state_keeps_its_place():
    table = OperationTable()
    for number in (2, 1):
        table.put(an_operation(id=an_id(number)))
    table.put(a_running_operation(id=an_id(2)))
    assert [operation.id for operation in table.candidates(NOW, RETENTION)] == [an_id(2), an_id(1)]
