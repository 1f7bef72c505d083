"""The demonstration: everything at once, on addresses of its own, until its time is up or it is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import msgspec
import pytest

from watcher.demo import _app, _scripts, demo
from watcher.simulator import built_in
from watcher.simulator.server import Running, serving

ANYWHERE = {
    "WATCHER_WEB__LISTEN": "127.0.0.1:0",
    "WATCHER_ADMIN__LISTEN": "127.0.0.1:0",
    "WATCHER_LOG__FORMAT": "json",
}


def run(capfd: pytest.CaptureFixture[str], interrupt: bool = False, **given: object) -> tuple[int, str]:  # noqa: FBT001, FBT002
    """The exit code and the output. With `interrupt`, it is interrupted after the first change of a status."""
    out = ""

    async def main() -> int:
        nonlocal out
        showing = asyncio.create_task(demo(settings=ANYWHERE, **given))  # type: ignore[arg-type]
        async with asyncio.timeout(20):
            while not showing.done() and not (interrupt and '"operation.moved"' in out):
                await asyncio.sleep(0.02)
                out += capfd.readouterr().out
            if interrupt:
                for address in addresses(out)[:2]:
                    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
                        assert (await client.get(address)).status_code == httpx.codes.OK
                signal.raise_signal(signal.SIGINT)
            return await showing

    code = asyncio.run(main())
    return code, out + capfd.readouterr().out


def addresses(out: str) -> list[str]:
    """What is printed for people, in the order of the lines."""
    return re.findall(r"^  \w.* (http://\S+)$", out, re.MULTILINE)


def test_operations_move_at_the_addresses_that_it_prints_and_an_interrupt_ends_it(capfd: pytest.CaptureFixture[str]):
    code, out = run(capfd, interrupt=True, operations=3)
    assert code == 0
    page, metrics, admin, api = addresses(out)[:4]
    assert (page.rstrip("/") + "/metrics", admin.endswith("/api/v1/operations")) == (metrics, True)
    assert api.endswith("/v1")
    assert '"operation.tracked"' in out
    assert '"campaign":' in out


def test_it_ends_when_its_time_is_up(capfd: pytest.CaptureFixture[str]):
    code, out = run(capfd, operations=2, duration=timedelta(milliseconds=100))
    assert code == 0
    assert '"daemon.stopped"' in out


def test_an_address_in_use_is_reported(capfd: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = ANYWHERE | {"WATCHER_WEB__LISTEN": f"127.0.0.1:{taken.getsockname()[1]}"}
        assert asyncio.run(demo(operations=2, settings=settings)) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("watcher: web.listen: cannot listen on")


def test_the_scripts_of_sends_have_every_outcome_and_are_valid_for_the_simulation():
    scripts = [script for script, _ in zip(_scripts(random.Random(1)), range(1000), strict=False)]
    kinds = {frozenset(script) - {"recipients", "lifetime"} for script in scripts}
    assert {frozenset(), *map(frozenset, [{"failed"}, {"unaddressable"}, {"canceled_at"}, {"scheduled"}])} <= kinds
    assert all(20 <= script["recipients"] <= 10_000 for script in scripts)  # type: ignore[operator]

    async def sent() -> set[int]:
        async with quiet() as api, caller(api) as client:
            url = f"{api.base_url}/PushNotifications"
            answers = await asyncio.gather(*(client.post(url, json=script) for script in scripts[:50]))
            return {answer.status_code for answer in answers}

    assert asyncio.run(sent()) == {httpx.codes.ACCEPTED}


@contextlib.asynccontextmanager
async def quiet() -> AsyncIterator[Running]:
    lively = built_in("demo")
    async with serving(
        msgspec.structs.replace(lively, population=msgspec.structs.replace(lively.population, in_flight=0))
    ) as api:
        yield api


def caller(api: Running) -> httpx.AsyncClient:
    account = api.upstream.accounts[0]
    auth = httpx.BasicAuth(account.account_id, account.auth_token)
    return httpx.AsyncClient(auth=auth, trust_env=False, verify=False)


def test_the_app_goes_on_when_the_watcher_is_not_there_or_the_api_refuses():
    async def main() -> tuple[int, int]:
        async with quiet() as api:
            app = asyncio.create_task(_app(api, "http://127.0.0.1:1", 10))
            async with asyncio.timeout(10):
                while len(list(api.upstream.world.lives())) < 5:  # noqa: ASYNC110 -- no event is set
                    await asyncio.sleep(0.01)
            account = api.upstream.accounts[0]
            api.upstream.set_accounts([msgspec.structs.replace(account, forbidden=True)])
            async with asyncio.timeout(10):
                while api.upstream.ledger.count("send", "403") < 2:  # noqa: ASYNC110 -- as above
                    await asyncio.sleep(0.01)
            is_done = app.done()
            app.cancel()
            await asyncio.wait([app])
            return is_done, app.cancelled()

    assert asyncio.run(main()) == (False, True)


SIGNALED_WHEN_THE_FOLDER_IS_THERE = """
import json, os, signal, sys, tempfile
from watcher import signals
signals.handle_from_now_on(["demo"])
from watcher import loop
from watcher.demo import demo
made = tempfile.mkdtemp
def make(*given):
    folder = made(*given)
    os.kill(os.getpid(), signal.SIGTERM)
    return folder
tempfile.mkdtemp = make
sys.exit(loop.run(demo(settings=json.loads(sys.argv[1]))))
"""


def test_a_signal_just_after_its_folder_was_made_leaves_no_folder(tmp_path: Path):
    ended = subprocess.run(
        [sys.executable, "-c", SIGNALED_WHEN_THE_FOLDER_IS_THERE, json.dumps(ANYWHERE)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
