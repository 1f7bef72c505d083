"""Chromium without a screen, and an app with operations to show in it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Request, async_playwright

from tests.server.serving import NOW, AppParts, a_snapshot
from tests.support.factories import counters_with
from watcher.core.channels import STAT_NAMES, Stats
from watcher.core.model import (
    MINUTE,
    OUTCOME_OF,
    SECOND,
    Failing,
    Finished,
    Moment,
    Moved,
    Operation,
    OperationEvent,
    Source,
    Status,
    rfc3339,
)
from watcher.core.snapshot import AccountSnapshot, NextPoll
from watcher.store import Change, Entry

WIDE, NARROW = (1200, 760), (360, 740)
LIVE = "body.live"
ROWS = "#operations tbody tr"

# Chromium on a machine without internet: without these it contacts its maker's hosts at every start.
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_AXE = resources.files("axe_playwright_python").joinpath("axe.min.js")
_NO_PROXY = {"NO_PROXY": "*", "no_proxy": "*"}

# When everything in the page as it was served has been painted: one animation frame after it was laid out.
_PAINTED = """
addEventListener("DOMContentLoaded", () => requestAnimationFrame(() => requestAnimationFrame(() => {
  window.paintedAfter = performance.now();
})));
"""


@dataclass
class Visit:
    """One page in one window, and what it did that it should not: `faults` are errors, `foreign` requests elsewhere."""

    page: Page
    url: str
    faults: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    @property
    def foreign(self) -> list[str]:
        """The requests to any other origin."""
        own = urlsplit(self.url).netloc
        return [url for url in self.requests if urlsplit(url).netloc not in {own, ""}]

    async def rows(self) -> list[str]:
        """The ids that are to be seen, from top to bottom."""
        return await self.page.locator(f"{ROWS}:not([hidden]) a").all_text_contents()

    async def text(self, selector: str) -> str:
        return await self.page.locator(selector).inner_text()

    async def violations(self) -> list[str]:
        """What axe-core finds, each with the elements."""
        await self.page.evaluate(_AXE.read_text(encoding="utf-8"))
        found = await self.page.evaluate("axe.run(document, {resultTypes: ['violations', 'incomplete']})")
        return [
            f"{one['id']}: {one['help']}: " + "; ".join(node["html"][:120] for node in one["nodes"][:3])
            for one in found["violations"]
        ]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.faults.append(message.text)

    def _on_request(self, request: Request) -> None:
        self.requests.append(request.url)

    def _on_error(self, error: Error) -> None:
        self.faults.append(str(error))

    def watch(self) -> None:
        """Record errors, messages and requests of the page."""
        self.page.on("console", self._on_console)
        self.page.on("pageerror", self._on_error)
        self.page.on("request", self._on_request)


@asynccontextmanager
async def chromium(*arguments: str) -> AsyncIterator[Browser]:
    """The browser of the system. None is downloaded."""
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("needs chromium on the PATH (Debian: apt-get install chromium)")
    async with async_playwright() as playwright:
        env: dict[str, Any] = {**os.environ, **_NO_PROXY}
        browser = await playwright.chromium.launch(executable_path=program, args=[*_ARGUMENTS, *arguments], env=env)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def visiting(browser: Browser, url: str, *, size: tuple[int, int] = WIDE, **options: Any) -> AsyncIterator[Visit]:
    """The page at the address, open in a window of its own, once it keeps itself up to date (if scripts may run)."""
    viewport: Any = {"width": size[0], "height": size[1]}
    context: BrowserContext = await browser.new_context(viewport=viewport, locale="en-GB", timezone_id="UTC", **options)
    try:
        context.set_default_timeout(10_000)
        await context.add_init_script(_PAINTED)
        visit = Visit(await context.new_page(), url)
        visit.watch()
        await visit.page.goto(url)
        if options.get("java_script_enabled", True):
            await visit.page.wait_for_selector(LIVE)
        yield visit
    finally:
        await context.close()


# ── something to show ────────────────────────────────────────────────────────────────────────────────────────────────


class Stage(AppParts):
    """Parts of the app with a running clock, and a store with what the snapshots show."""

    def __init__(self, *accounts: str) -> None:
        super().__init__(*accounts)
        began = time.monotonic()
        self.now = lambda: NOW.later(round((time.monotonic() - began) * SECOND))
        self.metric_labels = ("campaign",)

    def show(self, *operations: Operation, **changes: Any) -> None:
        """Show these from now on, by account."""
        self.snapshots = [
            a_snapshot(
                *(one for one in operations if one.account == account),
                account=account,
                **_health(account, operations) | changes,
            )
            for account in self.accounts
        ]

    async def keep(self, operation: Operation, *events: tuple[int, OperationEvent]) -> None:
        """Have the operation in the store, with its history."""
        entry = Entry(account=operation.account, id=operation.id, source=operation.source, labels=operation.labels)
        await self.store.register([entry], operation.registered_at)
        await self.store.commit(operation.account, [Change(operation=operation, events=events)])


def _health(account: str, operations: Sequence[Operation]) -> dict[str, Any]:
    mine = [one for one in operations if one.account == account]
    statuses = {status.value: sum(one.status is status for one in mine) for status in Status}
    return {
        "statuses": statuses,
        "counters": counters_with({("operations", "completed"): 1204, ("notifications", "sent"): 618_340}),
        "last_success_at": NOW.at,
        "limit_per_second": 5.0,
        "freshness": 5 * SECOND,
    }


def an_operation(number: int, status: Status, age: int, campaign: str, **stats: int) -> Operation:
    """An operation that was sent `age` seconds ago, with an id like a real one."""
    registered_at = NOW.at - age * SECOND
    has_ended = status in OUTCOME_OF
    given = dict.fromkeys(STAT_NAMES, 0) | stats
    given["total"] = given["recipients"] - given["unaddressable"]
    return Operation(
        account="main",
        id=f"comms_operation_01kf0{number * 7919 % 9973:04d}qz8m3x{number * 104_729 % 99_991:05d}t7w2h9",
        source=Source.API,
        registered_at=registered_at,
        labels={"campaign": campaign},
        status=status,
        stats=Stats(**given),
        created_at=registered_at,
        updated_at=registered_at + age * SECOND // 2,
        progressed_at=NOW.at - (age % 50) * SECOND,
        ended_at=registered_at + age * SECOND // 2 if has_ended else None,
    )


def some() -> Sequence[Operation]:
    """A morning's work: two that fail, some on their way, some done."""
    return (
        an_operation(1, Status.PROCESSING, 95, "spring-sale", recipients=4100, sent=2874, failed=212, queued=1014),
        an_operation(2, Status.COMPLETED, 640, "cart-reminder", recipients=961, sent=902, failed=12, unaddressable=47),
        an_operation(3, Status.COMPLETED, 312, "weekly-digest", recipients=7208, sent=7150, unaddressable=58),
        an_operation(4, Status.PROCESSING, 14, "match-start", recipients=12_400, sent=3310, queued=9090),
        an_operation(5, Status.PROCESSING, 33, "breaking-news", recipients=880, sent=741, queued=139),
        an_operation(6, Status.SCHEDULED, 20, "weekly-digest", recipients=5300, scheduled=5300),
        an_operation(7, Status.CANCELED, 450, "spring-sale", recipients=1900, sent=420, canceled=1480),
        an_operation(8, Status.COMPLETED, 820, "breaking-news", recipients=15_030, sent=15_030),
    )


async def furnish(stage: Stage) -> Sequence[Operation]:
    """Show `some`, the first of them with a history and a next poll."""
    operations = some()
    first = operations[0]
    begun = Stats(total=4100, recipients=4100, sent=160, queued=3940)
    failing = Stats(total=4100, recipients=4100, sent=1011, failed=3, queued=3086)
    start = first.registered_at
    moved = Moved(
        from_status=None, to_status=Status.PROCESSING, stats=begun, updated_at=rfc3339(start), delay_seconds=None
    )
    await stage.keep(first, (start + 2 * SECOND, moved), (start + 31 * SECOND, Failing(stats=failing)))
    stage.next_polls[first.account, first.id] = NextPoll(
        due_tick=NOW.tick + 6 * SECOND, how="GET by id", why="freshness after the last poll"
    )
    stage.show(*operations)
    return operations


def ended(operation: Operation, at: Moment) -> tuple[Operation, tuple[int, OperationEvent]]:
    """The operation as completed, and the event of its end."""
    stats = Stats(total=operation.stats.total, recipients=operation.stats.recipients, sent=operation.stats.total)
    after = operation.with_(status=Status.COMPLETED, stats=stats, progressed_at=at.at, ended_at=at.at)
    outcome = OUTCOME_OF[Status.COMPLETED]
    return after, (
        at.at,
        Finished(outcome=outcome, stats=stats, duration_seconds=(at.at - operation.registered_at) / SECOND),
    )


def down(account: str) -> AccountSnapshot:
    """An account whose credentials are refused, and that is late."""
    return AccountSnapshot(account=account, taken=NOW, unauthorized=True, lag=3 * MINUTE, limit_per_second=0.5)


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")
