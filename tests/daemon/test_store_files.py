"""The files of the store under a daemon that runs: what becomes of them is said, and nothing is answered as kept."""

from __future__ import annotations

from pathlib import Path

from tests.daemon.running import placed, settings, simulated, started


async def test_a_database_that_is_deleted_while_nothing_is_written_is_said_and_nothing_is_registered(tmp_path: Path):
    async with simulated("created: 0s") as api:
        with placed(tmp_path) as place:
            place.configure(settings(place.account(api)))
            async with started(place) as one:
                path = tmp_path / "watcher.db"
                aside = path.rename(tmp_path / "aside.db")
                await one.until_value(0, "operation_watcher_store_usable")
                (unusable,) = await one.published("store.unusable")
                assert unusable["reason"].endswith(
                    "the file is gone; put it back, or restart the watcher to start with an empty store"
                )
                assert (await one.track(0)).status_code == 503
                assert (await one.get("/-/healthy")).status_code == 200
                aside.rename(path)
                await one.published("store.recovered")
                await one.until_value(1, "operation_watcher_store_usable")
                assert (await one.track(0)).status_code == 201


async def test_another_file_in_the_place_of_the_database_is_not_written(tmp_path: Path):
    async with simulated("created: 0s") as api:
        with placed(tmp_path) as place:
            place.configure(settings(place.account(api)))
            async with started(place) as one:
                path = tmp_path / "watcher.db"
                path.rename(tmp_path / "aside.db")
                path.touch()
                assert (await one.track(0)).status_code == 503
                (unusable,) = await one.published("store.unusable")
                assert "another file is in its place" in unusable["reason"]
                assert await one.value("operation_watcher_store_usable") == 0
                assert path.stat().st_size == 0
