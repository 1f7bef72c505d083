"""What everybody writes first: one GET for each operation every few seconds, one Gauge with labels for each stat.

    python -m benchmarks.daemon.plain_poller BASE_URL FRESHNESS_SECONDS METRICS_PORT <ids

Every second it prints how many looks it made, and how many of them came within the freshness after the one before.
"""

from __future__ import annotations

import asyncio
import sys
import time

import httpx
from prometheus_client import Gauge, start_http_server

from watcher.simulator import Scenario

CONCURRENCY = 16
STATS = ("total", "recipients", "scheduled", "queued", "sent", "failed", "canceled", "unaddressable")


async def poll(base_url: str, freshness: float, ids: list[str], gauge: Gauge) -> None:
    """Look at every operation until it ends, as often as the freshness asks."""
    account = Scenario().accounts[0]
    limits = httpx.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    looks = {"made": 0, "fresh": 0}
    async with httpx.AsyncClient(auth=(account.account_id, account.auth_token), limits=limits, timeout=30) as http:
        slots = asyncio.Semaphore(CONCURRENCY)

        async def follow(operation_id: str) -> None:
            last = time.monotonic()
            while True:
                async with slots:
                    answer = await http.get(f"{base_url}/PushNotifications/Operations/{operation_id}")
                now = time.monotonic()
                looks["made"] += 1
                looks["fresh"] += now - last <= freshness * 1.1
                record = answer.json()
                for stat in STATS:
                    gauge.labels(operation_id, stat).set(record["stats"].get(stat, 0))
                if record["status"] in {"COMPLETED", "CANCELED"}:
                    return
                await asyncio.sleep(max(last + freshness - now, 0))
                last = now

        async def report() -> None:
            while True:
                await asyncio.sleep(1)
                print(looks["made"], looks["fresh"], flush=True)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(report())
            for operation_id in ids:
                tasks.create_task(follow(operation_id))


def main() -> None:
    base_url, freshness, port = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    gauge = Gauge("operation_stats", "Stats of an operation.", ("operation_id", "stat"))
    start_http_server(port, addr="127.0.0.1")
    asyncio.run(poll(base_url, freshness, sys.stdin.read().split(), gauge))


if __name__ == "__main__":
    main()
