"""Operations come and go for weeks without a scrape: the real loop on the real SQLite store, in virtual time.

    python tests/e2e/coming_and_going.py FILE NUMBER

prints `rss_mib_first_half rss_mib_second_half counted file_mib_first file_mib_second`, each the most that was measured
in that half. The weeks are long enough for tombstones (8 days) to come and go in the first half too.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.inline import open_inline
from tests.support.rig import Rig, loop_settings, running
from tests.support.virtual import run_virtually
from watcher.core.census import Retention
from watcher.core.model import HOUR, Micros
from watcher.core.snapshot import AccountSnapshot
from watcher.core.totals import OPERATIONS
from watcher.logs import EventLog, LineWriter
from watcher.publishing import EventPublisher
from watcher.simulator.scenario import parse_scenario
from watcher.store.sqlite import SqliteStore

DAYS = 20
BATCH = 500
MAX_OPERATIONS = 300
KEEP: Micros = 24 * HOUR
HOUSEKEEPING_SECONDS = 60.0
PRUNE_BATCH = 500

SCENARIO = """
retention: 2h
population:
  {lifetime: 5s..10m, recipients: 1..1000, share_failing: 0.05, share_unaddressable: 0.05, share_canceled: 0.03}
"""


class Measured:
    """The most that memory and file came to."""

    def __init__(self) -> None:
        self.rss_mib = 0.0
        self.file_mib = 0.0

    def take(self, rss_mib: float, file_mib: float) -> None:
        self.rss_mib = max(self.rss_mib, rss_mib)
        self.file_mib = max(self.file_mib, file_mib)


async def discard(lines: Sequence[bytes]) -> None:
    """A standard output that accepts everything."""


async def keep_house(rig: Rig, store: SqliteStore, publisher: EventPublisher) -> None:
    """What the daemon does beside its loops: publishing and pruning."""
    while True:
        await asyncio.sleep(HOUSEKEEPING_SECONDS)
        publisher.wake()
        rig.observer.attempts.clear()
        rig.observer.health_by_account.clear()
        rig.observer.delays.clear()
        now = rig.clock.now().at
        while await store.prune(now, keep_since=now - KEEP, limit=PRUNE_BATCH):
            pass


async def come_and_go(file: Path, number: int) -> tuple[Measured, Measured, float]:
    """Let a number of operations come and go; what was measured in each half, and how many were counted."""
    store = await open_inline(file)
    halves = Measured(), Measured()
    scenario = parse_scenario(SCENARIO)
    settings = loop_settings(freshness=60.0, settle_after=(30.0,), retention=Retention(max_operations=MAX_OPERATIONS))
    async with running(scenario, store=store, settings=settings) as rig:
        publisher = EventPublisher(store, EventLog(LineWriter()), discard, lambda: rig.clock.now().at)
        tasks = [asyncio.create_task(publisher.run()), asyncio.create_task(keep_house(rig, store, publisher))]
        batches = -(-number // BATCH)
        pause = DAYS * 86_400 / batches
        for batch in range(batches):
            now = rig.clock.now().at
            size = min(BATCH, number - batch * BATCH)
            account_id = scenario.accounts[0].account_id
            await rig.track([rig.upstream.world.send(account_id, now).id for _ in range(size)])
            await asyncio.sleep(pause)
            halves[2 * batch // batches].take(rss_mib(), await store.size_bytes() / 2**20)
        await rig.until(lambda: rig.watch.unfinished == 0, within=86_400)
        for task in tasks:
            task.cancel()
        counted = finished(rig.snapshot())
    await store.close()
    return *halves, counted


def finished(snapshot: AccountSnapshot) -> float:
    """How many operations were counted, whatever their outcome."""
    return sum(value for key, value in snapshot.totals.items() if key[0] == OPERATIONS)


def rss_mib() -> float:
    """What this process holds, after a collection: what is garbage is no leak."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    first, second, counted = run_virtually(come_and_go(Path(sys.argv[1]), int(sys.argv[2])))
    print(f"{first.rss_mib:.1f} {second.rss_mib:.1f} {counted:.0f} {first.file_mib:.1f} {second.file_mib:.1f}")
