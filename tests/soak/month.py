"""Thirty days of one account in virtual time: weekly outages, token rotations, limits that move.

    python tests/soak/month.py PART OPERATIONS

The real loop, planner, client and publisher, on the simulated API and the store in memory.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.support.rig import Rig, loop_settings, running
from tests.support.virtual import EPOCH, run_virtually, virtual_clock
from watcher.core.account_health import Began
from watcher.core.census import Retention
from watcher.core.errors import OperatorError
from watcher.core.model import DAY, HOUR, SECOND, Micros
from watcher.core.totals import COUNTED, OPERATIONS
from watcher.logs import EventLog, LineWriter
from watcher.publishing import EventPublisher
from watcher.simulator import Upstream
from watcher.simulator.fault_types import Fault
from watcher.simulator.scenario import Limits, Scenario, parse_scenario
from watcher.store.memory import MemoryStore

DAYS = 30
BATCH = 1000
KEEP: Micros = HOUR
DAY_SECONDS = 86_400.0
OUTAGE_HOURS = 6
STARTED = round(EPOCH * SECOND)

FRESHNESS_SECONDS = 120.0
SETTLE_SECONDS = 120.0

SCENARIO = """
seed: {part}
accounts: [{{account_id: AC{part:032}}}]
retention: 1d
latency: 20ms..200ms
population:
  {{lifetime: 5s..2m, recipients: 1..1000, share_failing: 0.05, share_unaddressable: 0.05, share_canceled: 0.03}}
"""
OUTAGES: Sequence[list[Fault]] = (
    [Fault(kind="status", status=503)],
    [Fault(kind="reset")],
    [Fault(kind="silent")],
    [Fault(kind="garbage")],
)


class Month:
    """The world around the loop: what comes, what breaks, what is true, and what was measured."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.upstream = Upstream(scenario, STARTED)
        self.truth: Counter[tuple[str, ...]] = Counter()
        self.published = 0
        self.ends: Counter[str] = Counter()
        self.sent = 0
        self.rss_by_day: list[float] = []
        self.lag_by_day: list[float] = []
        self.token = scenario.accounts[0].auth_token
        self.is_lagging = False
        self.issues: Counter[str] = Counter()

    def secret(self) -> str:
        """The token as mounted; unreadable for a moment while it is being replaced."""
        if self.is_lagging:
            raise OperatorError("the secret is being replaced")
        return self.token

    def send(self, now: int) -> str:
        """One more operation; what will be true of it is noted."""
        self.sent += 1
        life = self.upstream.world.send(self.scenario.accounts[0].account_id, now)
        self.truth[OPERATIONS, life.outcome.lower()] += 1
        for name, key in COUNTED.items():
            self.truth[key] += getattr(life.final, name)
        return life.id

    async def publish(self, lines: Sequence[bytes]) -> None:
        """Count the published events."""
        self.published += len(lines)
        for line in lines:
            if b'"operation.finished"' in line:
                self.ends[json.loads(line)["outcome"]] += 1

    async def break_weekly(self) -> None:
        for outage in (*OUTAGES, *OUTAGES):
            await asyncio.sleep(6.5 * DAY_SECONDS)
            self.upstream.set_faults(outage, 0)
            await asyncio.sleep(OUTAGE_HOURS * 3600)
            self.upstream.set_faults([], 0)
            await asyncio.sleep(0.5 * DAY_SECONDS - OUTAGE_HOURS * 3600)

    async def rotate_daily(self) -> None:
        for day in range(DAYS):
            await asyncio.sleep(DAY_SECONDS)
            self.token = f"token-{day}"
            # Upstream knows the new token before the mounted file does.
            self.is_lagging = day % 3 == 0
            self.upstream.set_accounts([msgspec.structs.replace(self.upstream.accounts[0], auth_token=self.token)])
            await asyncio.sleep(60)
            self.is_lagging = False

    async def move_limits(self) -> None:
        rng = random.Random(30)
        while True:
            await asyncio.sleep(3 * 3600)
            self.upstream.set_limits(
                Limits(
                    requests_per_second=rng.choice((None, 1.0, 2.0, 5.0)),
                    max_concurrent=rng.choice((None, 1, 2, 4)),
                )
            )

    async def keep_house(self, rig: Rig, store: MemoryStore, publisher: EventPublisher) -> None:
        while True:
            await asyncio.sleep(300)
            publisher.wake()
            self.issues.update(one.issue.value for one in rig.observer.health_by_account if isinstance(one, Began))
            rig.observer.attempts.clear()
            rig.observer.health_by_account.clear()
            rig.observer.delays.clear()
            rig.observer.anomalies.clear()
            self.upstream.ledger.entries.clear()
            now = rig.clock.now().at
            while await store.prune(now, keep_since=now - KEEP, limit=2000):
                pass

    async def measure_daily(self, rig: Rig) -> None:
        await asyncio.sleep(DAY_SECONDS * 0.4)
        while True:
            await asyncio.sleep(DAY_SECONDS)
            self.lag_by_day.append(rig.snapshot().lag / SECOND)
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.rss_by_day.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)


async def live_a_month(part: int, operations: int) -> tuple[Month, dict[tuple[str, ...], float], int]:
    """Run the whole month; it, its counters, and the number of pending events at the end."""
    month = Month(parse_scenario(SCENARIO.format(part=part)))
    store = MemoryStore()
    settings = loop_settings(
        freshness=FRESHNESS_SECONDS, settle_after=(SETTLE_SECONDS,), retention=Retention(max_operations=100)
    )
    assert virtual_clock().now().at == STARTED
    async with running(
        month.scenario, store=store, upstream=month.upstream, settings=settings, secret=month.secret
    ) as rig:
        publisher = EventPublisher(store, EventLog(LineWriter()), month.publish, lambda: rig.clock.now().at)
        beside = [
            asyncio.create_task(one)
            for one in (
                publisher.run(),
                month.break_weekly(),
                month.rotate_daily(),
                month.move_limits(),
                month.keep_house(rig, store, publisher),
                month.measure_daily(rig),
            )
        ]
        batches = operations // BATCH
        for _ in range(batches):
            now = rig.clock.now().at
            await rig.track([month.send(now) for _ in range(BATCH)])
            await asyncio.sleep(DAYS * DAY_SECONDS / batches)
        await rig.until(lambda: rig.watch.unfinished == 0, within=DAY_SECONDS)
        publisher.wake()
        await asyncio.sleep(2)
        pending_events = await store.count_pending()
        for task in beside:
            task.cancel()
        totals = dict(rig.snapshot().totals)
        assert rig.clock.now().at - STARTED > DAYS * DAY
    return month, totals, pending_events


def main() -> None:
    """Run the month of one account, and print a report."""
    part, operations = int(sys.argv[1]), int(sys.argv[2])
    began = time.monotonic(), time.process_time()
    month, totals, pending_events = run_virtually(live_a_month(part, operations))
    report = {
        "wall_seconds": time.monotonic() - began[0],
        "cpu_seconds": time.process_time() - began[1],
        "sent": month.sent,
        "requests": sum(month.upstream.ledger.counts.values()),
        "published": month.published,
        "pending": pending_events,
        "ends": dict(month.ends),
        "true_ends": {key[1]: number for key, number in month.truth.items() if key[0] == OPERATIONS},
        "wrong": [[*key, totals.get(key, 0), true] for key, true in month.truth.items() if totals.get(key, 0) != true],
        "issues": dict(month.issues),
        "lag_seconds_by_day": month.lag_by_day,
        "rss_mib_by_day": month.rss_by_day,
    }
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
