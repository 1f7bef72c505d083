"""Where the work of a whole daemon is done: in threads that the decision names, none in the default executor."""

from __future__ import annotations

import asyncio
import re
import threading
from pathlib import Path

from tests.daemon.running import Place, placed, settings, simulated, started
from tests.faults.conftest import ROOT
from tests.support.certificates import hashed, write_web_file
from watcher import loop

DECISION = ROOT / "docs" / "decisions" / "0009-threads.md"


def named_in_the_decision() -> dict[str, int]:
    """The names of threads in the table, and how many there are of each."""
    return {
        name: int(number)
        for name, number in re.findall(r"^\| `([a-z ]+)` \| (\d+) \|", DECISION.read_text(), re.MULTILINE)
    }


def test_a_whole_daemon_uses_the_threads_that_the_decision_names_and_no_default_executor(tmp_path: Path):
    before = set(threading.enumerate())
    seen: list[str] = []

    async def drive(place: Place) -> None:
        async with simulated("created: -5s") as api:
            base_url = api.base_url.replace("127.0.0.1", "localhost")
            token = place.folder / "admin_token"
            token.write_text("t0ken")
            web_file = write_web_file(place.folder, basic_auth_users={"alice": hashed("word")})
            configuration = settings(
                place.account(api, base_url=base_url),
                web={"config_file": str(web_file)},
                admin={"token_file": str(token)},
            )
            place.configure(configuration)
            async with started(place) as one:
                admin, web = one.daemon.addresses["admin"][0], one.daemon.addresses["web"][0]
                bearer = {"Authorization": "Bearer t0ken"}
                scrape = await one.client.get(f"{web}/metrics", auth=("alice", "word"))
                assert scrape.status_code == 200
                reloaded = await one.client.post(f"{admin}/-/reload", headers=bearer)
                assert reloaded.status_code == 200
                token.write_text("other")
                refused = await one.client.post(f"{admin}/-/reload", headers=bearer)
                assert refused.status_code == 401
                seen.extend(thread.name for thread in threading.enumerate() if thread not in before)
            # asyncio's own name for it; there is no public one.
            assert asyncio.get_running_loop()._default_executor is None  # type: ignore[attr-defined]

    with placed(tmp_path) as place:
        loop.run(drive(place))
    wanted = {
        name if number == 1 else f"{name} {each}"
        for name, number in named_in_the_decision().items()
        for each in range(1, number + 1)
    }
    assert set(seen) == wanted
    assert len(seen) == len(wanted)


def test_no_code_of_the_watcher_uses_the_default_executor():
    given = re.compile(r"to_thread\(|run_in_executor\(None|run_in_threadpool|ThreadPoolExecutor")
    found = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "watcher").rglob("*.py")
        if given.search(file.read_text()) and file.name != "loop.py"
    }
    assert found == set()
