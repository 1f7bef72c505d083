"""An id that stays in `operations` of the configuration long after its end: one event, one count, whatever restarts."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.daemon.running import an_id, placed, settings, simulated, started
from tests.daemon.test_following import FINISHED
from watcher.clock import Clock

DAY_SECONDS = 86_400


async def test_an_id_that_the_configuration_names_for_weeks_is_published_and_counted_once(tmp_path: Path):
    life = "created: 0s, processing: 100ms, completed: 300ms, stats: {recipients: 10}"
    async with simulated(life) as api:
        with placed(tmp_path) as place:
            named = place.account(api, operations=[an_id(0)])
            brief = {"hold": "1m", "hold_at_most": "2m"}
            place.configure(settings(named, storage={"keep": "1m"}, metrics=brief))
            async with started(place) as one:
                await one.until_value(1, FINISHED, account="main", outcome="completed")
            for days in (9, 18):
                # More than a month would not do more: the tombstone outlives its 8 days only because it is named.
                async with started(place, clock=Clock(lambda: time.time() + days * DAY_SECONDS)) as one:  # noqa: B023
                    async with asyncio.timeout(10):
                        while (await one.get(f"/api/v1/operations/{an_id(0)}")).status_code == 200:  # noqa: ASYNC110
                            await asyncio.sleep(0.05)
                    assert (await one.post("/-/reload")).status_code == 200
                    await asyncio.sleep(1)  # the loop would load what the reload registered
                    assert (await one.get(f"/api/v1/operations/{an_id(0)}")).status_code == 404
                    assert await one.value(FINISHED, account="main", outcome="completed") == 1
            ids = [event["event_id"] for event in place.events() if event.get("operation_id") == an_id(0)]
            assert len(place.events("operation.finished")) == 1
            assert len(place.events("operation.tracked")) == 1
            assert len(ids) == len(set(ids))
