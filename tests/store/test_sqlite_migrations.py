"""Old stores are brought up to date, whole or not at all, and end as fresh ones begin."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from uuid import RFC_4122, UUID

import pytest

from tests.store.factories import ACCOUNT, ID, NOW, OTHER, entry, prune_all, track
from tests.support.stored import counted_in, outcome_in
from watcher.core.errors import StoreRefused, StoreUnusable
from watcher.core.labelling import COMBINATIONS_AT_MOST
from watcher.core.model import TOMBSTONE_LIFE, Outcome
from watcher.store import RegistrationResult, StoredEvent
from watcher.store.sqlite import SqliteStore
from watcher.store.sqlite.migrations import released

OLD = sorted(Path(__file__).with_name("old").glob("v*.sql"))
NEXT = "ALTER TABLE accounts ADD COLUMN note TEXT;"


def schema(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        ((number,),) = connection.execute("PRAGMA user_version").fetchall()
        return int(number)


def restore(dump: Path, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(dump.read_text("utf-8"))


def test_every_released_version_has_a_dump_to_upgrade_from() -> None:
    assert [dump.stem for dump in OLD] == [f"v{number}" for number in range(1, len(released()) + 1)]


@pytest.mark.parametrize("dump", OLD, ids=lambda dump: dump.stem)
async def test_an_old_store_is_brought_up_to_date_with_all_that_is_in_it(dump: Path, path: Path) -> None:
    restore(dump, path)
    store = await SqliteStore.open(path)
    loaded = await store.load(ACCOUNT, final_since=0)
    assert {found.id: found.labels for found in loaded.operations} == {ID: {"campaign": "spring"}}
    assert loaded.operations[0].stats.sent == 5
    assert await counted_in(store, ACCOUNT) == {("operations", "completed"): 1}
    assert (loaded.revision, loaded.discovery.cursor) == (2, 1768469400000005)
    assert [event.seq for event in await store.pending_events(0, 9)] == [2]
    (answer,) = await store.register([entry(id=OTHER)], NOW)
    assert (answer.result, answer.outcome) == (RegistrationResult.FINISHED, Outcome.COMPLETED)
    with pytest.raises(StoreRefused):
        await store.bind({ACCOUNT: "another"})
    await store.close()


@pytest.mark.parametrize("dump", OLD, ids=lambda dump: dump.stem)
async def test_an_upgraded_store_has_the_schema_of_a_fresh_one(dump: Path, path: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh.db"
    restore(dump, path)
    for name in (path, fresh):
        await (await SqliteStore.open(name)).close()
    assert schema(path) == schema(fresh)
    assert version(path) == version(fresh) == len(released())


async def test_an_event_of_version_1_gets_its_id_once(path: Path) -> None:
    restore(OLD[0], path)
    seen: list[Sequence[StoredEvent]] = []
    for _ in range(2):
        store = await SqliteStore.open(path)
        seen.append(await store.history(ACCOUNT, ID))
        assert await store.pending_events(0, 9) == seen[-1][1:]
        await store.close()
    assert seen[0] == seen[1]
    assert len({event.event_id for event in seen[0]}) == 2
    for event in seen[0]:
        event_id = UUID(event.event_id)
        assert (event_id.version, event_id.variant, str(event_id)) == (7, RFC_4122, event.event_id)
        assert event_id.int >> 80 == event.occurred_at // 1000


async def test_positions_go_on_after_an_upgrade_though_all_events_had_left(path: Path) -> None:
    restore(OLD[0], path)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("DELETE FROM events")
    store = await SqliteStore.open(path)
    assert await store.last_position() == 4
    await store.close()


async def test_a_tombstone_of_version_1_stays_eight_days_after_the_last_time_that_its_store_knew(path: Path) -> None:
    restore(OLD[0], path)
    last_known = 1768469400000030
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE tombstones SET created_at = 0")
    store = await SqliteStore.open(path)
    await prune_all(store, now=last_known + TOMBSTONE_LIFE, keep_since=0)
    assert await outcome_in(store, ACCOUNT, OTHER) is Outcome.COMPLETED
    await prune_all(store, now=last_known + TOMBSTONE_LIFE + 1, keep_since=0)
    assert await outcome_in(store, ACCOUNT, OTHER) is None
    await store.close()


async def test_counters_of_an_old_store_are_shown_as_before_and_their_durations_are_exact(path: Path) -> None:
    restore(OLD[0], path)
    names = [f'campaign=c {number:03} é"' for number in range(300)]
    with closing(sqlite3.connect(path)) as connection, connection:
        for name in names:
            for key in (("operations", "completed", name), ("duration_sum", name)):
                row = ACCOUNT, json.dumps(key, ensure_ascii=False), 2.5
                connection.execute("INSERT INTO counters VALUES (?, ?, ?)", row)
    store = await SqliteStore.open(path)
    await store.adopt_counter_labels(ACCOUNT, ["campaign"], NOW)
    counters = await store.counters(ACCOUNT)
    await store.close()
    assert len(counters.combinations) == COMBINATIONS_AT_MOST + 1
    assert [one for one, state in counters.combinations.items() if not state.is_open] == [("campaign=other",)]
    shown = [name for name in names if (name,) in counters.combinations]
    assert {counters.totals["operations", "completed", name] for name in shown} == {2.5}
    assert {counters.totals["duration_micros", name] for name in shown} == {2_500_000}
    assert counters.totals["operations", "completed", "campaign="] == 1
    assert counters.rest["operations", "completed"] == 2.5 * (len(names) - len(shown))


async def test_a_further_step_is_taken_once(path: Path) -> None:
    store = await SqliteStore.open(path)
    await track(store)
    await store.close()
    for _ in range(2):
        store = await SqliteStore.open(path, steps=[*released(), NEXT])
        assert len((await store.load(ACCOUNT, final_since=0)).operations) == 1
        await store.close()
    assert version(path) == len(released()) + 1
    with pytest.raises(StoreRefused, match="newer watcher"):
        await SqliteStore.open(path)


async def test_a_step_that_fails_leaves_the_store_as_it_was(path: Path) -> None:
    store = await SqliteStore.open(path)
    await track(store)
    await store.close()
    before = schema(path)
    with pytest.raises(StoreUnusable):
        await SqliteStore.open(path, steps=[*released(), f"{NEXT} ALTER TABLE missing ADD COLUMN note TEXT;"])
    assert schema(path) == before
    assert version(path) == len(released())
    store = await SqliteStore.open(path)
    assert len((await store.load(ACCOUNT, final_since=0)).operations) == 1
    await store.close()
