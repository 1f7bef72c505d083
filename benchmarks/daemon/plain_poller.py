"""What everybody writes first: one GET for each operation every few seconds, one Gauge with labels for each stat.

    python -m benchmarks.daemon.plain_poller BASE_URL FRESHNESS_SECONDS METRICS_PORT

It lists what runs at its start, and what was created since every `FRESHNESS_SECONDS`. Every second it prints how many
polls it made, and how many of them came within 1.1 of the freshness after the one before.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from prometheus_client import Gauge, start_http_server

from watcher.simulator import Scenario

CONCURRENCY = 16
STATS = ("total", "recipients", "scheduled", "queued", "sent", "failed", "canceled", "unaddressable")
ENDED = {"COMPLETED", "CANCELED"}
SPREAD = 0.618
OVERLAP = timedelta(seconds=5)


class Poller:
    """Polls every operation until it ends, as often as the freshness asks."""

    def __init__(self, http: httpx.AsyncClient, operations_url: str, freshness: float) -> None:
        self._http = http
        self._url = operations_url
        self._freshness = freshness
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._known: set[str] = set()
        self._gauge = Gauge("operation_stats", "Stats of an operation.", ("operation_id", "stat"))
        self.made = 0
        self.in_time = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._report())
            query: dict[str, str] = {"status": "PROCESSING"}
            while True:
                began = datetime.now(UTC)
                async for record in self._listed(query):
                    if record["id"] not in self._known and record["status"] not in ENDED:
                        self._known.add(record["id"])
                        tasks.create_task(self._follow(record["id"]))
                query = {"startDate": (began - OVERLAP).strftime("%Y-%m-%dT%H:%M:%SZ")}
                await asyncio.sleep(self._freshness)

    async def _listed(self, query: dict[str, str]) -> AsyncIterator[dict[str, Any]]:
        token: str | None = None
        while True:
            more = {"pageToken": token} if token else {}
            answer = (await self._http.get(self._url, params={"pageSize": "1000"} | query | more)).json()
            for record in answer["operations"]:
                yield record
            token = answer["pagination"]["next"]
            if token is None:
                return

    async def _follow(self, operation_id: str) -> None:
        last = time.monotonic()
        # What is found at once is spread, or it would come as a burst in each span of the freshness.
        due = last + len(self._known) * SPREAD % 1 * self._freshness
        while True:
            await asyncio.sleep(max(due - time.monotonic(), 0))
            async with self._slots:
                answer = await self._http.get(f"{self._url}/{operation_id}")
            now = time.monotonic()
            self.made += 1
            self.in_time += now - last <= self._freshness * 1.1
            record = answer.json()
            for stat in STATS:
                self._gauge.labels(operation_id, stat).set(record["stats"].get(stat, 0))
            if record["status"] in ENDED:
                return
            last = now
            due = max(due + self._freshness, now)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(1)
            print(self.made, self.in_time, flush=True)


async def poll(base_url: str, freshness: float) -> None:
    account = Scenario().accounts[0]
    limits = httpx.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    auth = (account.account_id, account.auth_token)
    async with httpx.AsyncClient(auth=auth, limits=limits, timeout=30, trust_env=False) as http:
        await Poller(http, f"{base_url}/PushNotifications/Operations", freshness).run()


def main() -> None:
    base_url, freshness, port = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    start_http_server(port, addr="127.0.0.1")
    asyncio.run(poll(base_url, freshness))


if __name__ == "__main__":
    main()
