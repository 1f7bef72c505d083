"""What the file costs: it does not grow for ever, and no statement reads whole tables."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.store.factories import ACCOUNT, ID, NOW, OTHER, entry, final, finish, finished, prune_all, publish_all, track
from watcher.core.model import DAY, MINUTE, Source
from watcher.store import Change
from watcher.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

SCAN = re.compile(r"SCAN (operations|events|tombstones|told|counters|combinations)\b(?!.* USING )")


async def test_operations_that_come_and_go_leave_the_file_as_it_was(path: Path) -> None:
    store = await SqliteStore.open(path)
    sizes = []
    for day in range(40):
        now = NOW + day * DAY
        names = [f"{day}-{number}" for number in range(250)]
        await track(store, *names, now=now)
        ends = [
            Change(operation=final(now + MINUTE, id=name, registered_at=now), events=((now, finished()),))
            for name in names
        ]
        await store.commit(ACCOUNT, ends)
        await publish_all(store, now + MINUTE)
        await prune_all(store, now, keep_since=now - DAY, limit=500)
        sizes.append(await store.size_bytes())
    await store.close()
    assert max(sizes[20:]) <= 1.1 * max(sizes[10:20])


@pytest.mark.unmeasured
async def test_the_file_shrinks_after_a_peak(path: Path) -> None:
    store = await SqliteStore.open(path)
    names = [f"{number:05}" for number in range(15_000)]
    await track(store, *names)
    await store.commit(ACCOUNT, [Change(operation=final(id=name)) for name in names])
    await publish_all(store)
    await store.close()
    peak = path.stat().st_size
    store = await SqliteStore.open(path)
    await prune_all(store, NOW + 99 * DAY, keep_since=NOW + 99 * DAY, limit=5000)
    for _ in range(10):
        await store.prune(NOW, keep_since=NOW, limit=1)
    await store.close()
    assert peak > 2 * path.stat().st_size


async def test_no_statement_reads_a_whole_table(path: Path) -> None:
    store = await SqliteStore.open(path)
    statements: set[str] = set()
    await store._read(lambda connection: connection.set_trace_callback(statements.add))
    await track(store, ID, OTHER, labels={"a": "1"})
    await store.register([entry(labels={"a": "2"})], NOW)
    await store.load(ACCOUNT, final_since=0)
    await finish(store)
    await store.commit(ACCOUNT, [Change(operation=final(scraped_at=NOW))], cursor=1)
    await store.untrack(ACCOUNT, OTHER, NOW, Source.API)
    await store.intake(ACCOUNT, 0)
    await store.adopt_counter_labels(ACCOUNT, ["a"], NOW)
    await store.open_combinations(ACCOUNT, [("a=2",)])
    await store.retire_combinations(ACCOUNT, [("a=2",)], tracked_before=NOW)
    await store.counters(ACCOUNT)
    await store.page(account=None, statuses=["COMPLETED"], after=(ACCOUNT, ID), limit=5)
    await store.find(ID)
    await store.history(ACCOUNT, ID)
    await store.pending_events(0, 5)
    await store.count_pending()
    await publish_all(store)
    await prune_all(store, NOW + 99 * DAY, keep_since=NOW + 99 * DAY)
    await store.close()

    plans = [statement for statement in statements if statement.lstrip().startswith(("SELECT", "DELETE", "UPDATE"))]
    assert len(plans) > 20
    with closing(sqlite3.connect(path)) as connection:
        for statement in plans:
            for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {statement}"):
                assert not SCAN.match(step), (statement, step)
                assert "TEMP B-TREE" not in step, (statement, step)
