"""A page from elsewhere, in a real browser, changes nothing through admin and reads nothing from it.

Each attempt is made from pages of three kinds: of another site, of another port of this machine, and of a name that
first belonged to another site and then points to this machine (DNS rebinding). What reached the listener, and how it
was answered, is recorded there, so that a browser that sends nothing proves nothing by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Route
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.e2e.browser import chromium
from tests.server.serving import AppParts, an_id, listening

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPERATIONS = "/api/v1/operations"
TRACKED, WANTED = an_id(1), an_id(2)
ENTRY = f'{{"id": "{WANTED}"}}'
SITE, REBOUND = "elsewhere.test", "rebound.test"

# What a page can try. `base` is admin as the page names it; each ends when its answer, whatever it is, has come.
FETCHES = {
    "fetch, no-cors": "fetch(base + path, {method: 'POST', mode: 'no-cors', body: entry})",
    "fetch, no-cors, as JSON": """fetch(base + path, {method: 'POST', mode: 'no-cors',
        body: new Blob([entry], {type: 'application/json'})})""",
    "fetch, no-cors, without a type": "fetch(base + path, {method: 'POST', mode: 'no-cors', body: new Blob([entry])})",
    "fetch, asking first": """fetch(base + path, {method: 'POST', body: entry,
        headers: {'Content-Type': 'application/json'}})""",
    "fetch, as plain text": """fetch(base + path, {method: 'POST', body: entry,
        headers: {'Content-Type': 'text/plain; application/json'}})""",
    "fetch, two types": """fetch(base + path, {method: 'POST', mode: 'no-cors', body: entry,
        headers: {'Content-Type': 'text/plain;charset="application/json"'}})""",
    "XMLHttpRequest": """new Promise((done) => { const asked = new XMLHttpRequest(); asked.onloadend = done;
        asked.open('POST', base + path); asked.setRequestHeader('Content-Type', 'text/plain'); asked.send(entry); })""",
    "delete": "fetch(base + path + '/' + followed, {method: 'DELETE'})",
    "reload": "fetch(base + '/-/reload', {method: 'POST', mode: 'no-cors'})",
    "reload, without a referrer": """fetch(base + '/-/reload', {method: 'POST', mode: 'no-cors',
        referrerPolicy: 'no-referrer', credentials: 'omit'})""",
}
FORMS = {
    "form of plain text": ("text/plain", f'{{"id": "{WANTED}", "labels": {{"a": "', '"}}'),
    "form": ("application/x-www-form-urlencoded", "id", WANTED),
    "form with a file": ("multipart/form-data", "id", WANTED),
}
FORM = """(document, [action, enctype, name, value]) => {
  const form = document.createElement('form');
  Object.assign(form, {action, enctype, method: 'POST'});
  const input = Object.assign(document.createElement('input'), {name, value});
  form.append(input); document.body.append(form); form.submit();
}"""
# Whether the page gets to see anything of it.
SHOWN = """([tag, src]) => new Promise((done) => {
  const one = document.createElement(tag);
  one.onerror = () => done('nothing');
  one.onload = () => done(tag !== 'iframe' || one.contentDocument?.body.innerText ? 'something' : 'nothing');
  one.src = src;
  document.body.append(one);
})"""
READING = "fetch(base + path).then((answer) => answer.text())"


@dataclass
class Door:
    """Admin, and what came to it: method, path and status of each request."""

    app: ASGIApp
    port: int = 0
    received: list[tuple[str, str, int]] = field(default_factory=list)
    origins: list[str | None] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.received.append((scope["method"], scope["path"], message["status"]))
                self.origins.append(Headers(scope=scope).get("origin"))
            await send(message)

        await self.app(scope, receive, send_recorded)

    async def answered(self, method: str, path: str) -> int:
        """The status of the last such request, once there is one."""
        async with asyncio.timeout(10):
            while True:
                for one in reversed(self.received):
                    if one[:2] == (method, path):
                        return one[2]
                await asyncio.sleep(0.01)


@dataclass
class Scene:
    parts: AppParts
    door: Door
    reloads: list[None]

    async def is_untouched(self) -> bool:
        """Whether the operation is still tracked, no other is, and no reload was requested."""
        tracked = [one.operation.id for one in await self.parts.store.find(TRACKED) if one.untracked_at is None]
        return tracked == [TRACKED] and not await self.parts.store.find(WANTED) and self.reloads == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    rules = ", ".join(f"MAP {name} 127.0.0.1" for name in (SITE, REBOUND))
    # Newer browsers ask the person before a page may speak to this machine. Here that person says yes to everything.
    open_doors = "LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests,PrivateNetworkAccessSendPreflights"
    async with chromium(f"--host-resolver-rules={rules}", f"--disable-features={open_doors}") as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module")
async def scene() -> AsyncIterator[Scene]:
    parts = AppParts()
    await parts.intake.take(f'{{"id": "{TRACKED}"}}'.encode())
    reloads: list[None] = []

    async def reload() -> list[str]:
        reloads.append(None)
        return []

    parts.reload = reload
    door = Door(parts.admin())
    async with listening(door) as listener:
        door.port = int(listener.addresses[0].rpartition(":")[2])
        yield Scene(parts, door, reloads)


@asynccontextmanager
async def page_at(browser: Browser, url: str) -> AsyncIterator[Page]:
    """A page of that address. Its first answer is ours, all its other requests are really sent."""
    context = await browser.new_context()
    try:
        page = await context.new_page()

        async def answer(route: Route) -> None:
            await route.fulfill(body="<!doctype html><title>elsewhere</title>", content_type="text/html")

        await page.route(url, answer)
        await page.goto(url)
        await page.unroute(url)
        yield page
    finally:
        await context.close()


async def attempt(page: Page, base: str, script: str) -> Any:
    """The result. A refusal by the browser counts as an answer."""
    return await page.evaluate(
        f"([base, path, entry, followed]) => ({script}).then((got) => got ?? null, (error) => `refused: ${{error}}`)"
        ".then((got) => typeof got === 'string' ? got : null)",
        [base, OPERATIONS, ENTRY, TRACKED],
    )


Pages = Callable[[int], tuple[str, str, set[int]]]
FROM: dict[str, Pages] = {
    # The page's address, admin as it names it, and how it is answered.
    "another site": lambda port: (f"http://{SITE}:1/", f"http://localhost:{port}", {403}),
    "another port": lambda port: ("http://localhost:1/", f"http://localhost:{port}", {403}),
    "another name of this machine": lambda port: ("http://127.0.0.1:1/", f"http://localhost:{port}", {403}),
    "a rebound name": lambda port: (f"http://{REBOUND}:{port}/", f"http://{REBOUND}:{port}", {421}),
    "a site that requests a rebound name": lambda port: (f"http://{SITE}:1/", f"http://{REBOUND}:{port}", {421}),
}


@pytest.mark.parametrize("whence", FROM)
async def test_scripts_change_nothing(browser: Browser, scene: Scene, whence: str):
    page_url, base, refusals = FROM[whence](scene.door.port)
    async with page_at(browser, page_url) as page:
        for name, script in FETCHES.items():
            before = len(scene.door.received)
            await attempt(page, base, script)
            arrived = scene.door.received[before:]
            assert arrived, f"{name}: the browser sent nothing, so this proves nothing"
            assert {status for _, _, status in arrived} <= refusals, (name, arrived)
            assert await scene.is_untouched(), name


@pytest.mark.parametrize("whence", FROM)
async def test_forms_and_beacons_change_nothing(browser: Browser, scene: Scene, whence: str):
    page_url, base, refusals = FROM[whence](scene.door.port)
    for name, (enctype, key, value) in FORMS.items():
        for path in (OPERATIONS, "/-/reload"):
            scene.door.received.clear()
            async with page_at(browser, page_url) as page:
                await page.evaluate(f"(given) => ({FORM})(document, given)", [base + path, enctype, key, value])
                assert await scene.door.answered("POST", path) in refusals, name
    scene.door.received.clear()
    async with page_at(browser, page_url) as page:
        assert await page.evaluate("([url, entry]) => navigator.sendBeacon(url, entry)", [base + OPERATIONS, ENTRY])
        assert await scene.door.answered("POST", OPERATIONS) in refusals
    assert await scene.is_untouched()


async def test_a_page_without_an_origin_changes_nothing(browser: Browser, scene: Scene):
    """A sandboxed frame says `Origin: null`."""
    base = f"http://localhost:{scene.door.port}"
    async with page_at(browser, f"http://{SITE}:1/") as page:
        await page.evaluate(
            """(inner) => { const frame = document.createElement('iframe');
               frame.sandbox = 'allow-scripts allow-forms'; frame.srcdoc = inner; document.body.append(frame); }""",
            f"<script>fetch('{base}/-/reload', {{method: 'POST', mode: 'no-cors'}})</script>",
        )
        assert await scene.door.answered("POST", "/-/reload") == 403
    assert scene.door.origins == ["null"]
    assert await scene.is_untouched()


@pytest.mark.parametrize("whence", FROM)
async def test_nothing_of_admin_can_be_read(browser: Browser, scene: Scene, whence: str):
    page_url, base, refusals = FROM[whence](scene.door.port)
    async with page_at(browser, page_url) as page:
        assert TRACKED not in (await attempt(page, base, READING) or "")
        assert {status for _, _, status in scene.door.received} <= refusals
        # Frames, images and scripts need no permission. Another port counts as the same site: admin's page opens by a
        # link, so it is answered here too. The headers of the answer prevent that it is read.
        for tag in ("iframe", "img", "script"):
            scene.door.received.clear()
            assert await page.evaluate(SHOWN, [tag, f"{base}{OPERATIONS}"]) == "nothing", tag
            assert await scene.door.answered("GET", OPERATIONS) in refusals | ({200} if "port" in whence else set()), (
                tag
            )
    assert await scene.is_untouched()


async def test_an_answer_that_can_be_read_is_detected(browser: Browser, scene: Scene):
    """The checks of the test above, with content that may be read."""
    async with page_at(browser, f"http://{SITE}:1/") as page:
        assert await page.evaluate(SHOWN, ["iframe", "data:text/html,x"]) == "nothing"
        assert await page.evaluate(SHOWN, ["script", "data:text/javascript,1"]) == "something"
        delta = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"
        assert await page.evaluate(SHOWN, ["img", delta]) == "something"
        await page.route(f"http://{SITE}:1/inner", lambda route: route.fulfill(body="x", content_type="text/html"))
        assert await page.evaluate(SHOWN, ["iframe", f"http://{SITE}:1/inner"]) == "something"


async def test_the_page_of_admin_itself_can_change_things(browser: Browser, scene: Scene):
    """The same script in admin's own page: the other pages are refused because of their origin."""
    base = f"http://localhost:{scene.door.port}"
    async with page_at(browser, f"{base}/") as page:
        await attempt(page, base, FETCHES["fetch, asking first"])
    # A browser may request an icon too.
    assert [arrived for arrived in scene.door.received if arrived[0] == "POST"] == [("POST", OPERATIONS, 201)]
    assert not await scene.is_untouched()
