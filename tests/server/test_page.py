"""The status page as it is served, and the overview that keeps it up to date."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from tests.server.serving import NOW, AppParts, a_running_operation, a_snapshot, an_id, an_operation, client_of
from watcher.core.channels import Stats
from watcher.core.labelling import CombinationState, counters_of
from watcher.core.model import SECOND, Status
from watcher.core.snapshot import AccountSnapshot
from watcher.core.totals import Key
from watcher.server.page.render import SCRIPT

HOSTILE = "</td><script>alert(1)</script>\"'&\x00\u202e"


class Seen(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_the_page_shows_tracked_operations_with_failures_first(parts: AppParts, web: httpx.AsyncClient):
    calm = a_running_operation(id=an_id(1), stats=Stats(total=10, sent=10))
    failing = a_running_operation(id=an_id(2))
    unseen = an_operation(id=an_id(0))
    ended = an_operation(id=an_id(3), status=Status.COMPLETED, stats=Stats(total=1, sent=1))
    parts.snapshots = [
        a_snapshot(ended, calm, unseen, failing, statuses={"PROCESSING": 2, "UNSEEN": 1, "UNKNOWN": 0}, suppressed=7)
    ]
    answer = await web.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    seen = Seen(answer.text)
    places = [seen.text.index(an_id(n)) for n in (2, 0, 1, 3)]
    assert places == sorted(places)
    assert "2 PROCESSING, 1 UNSEEN" in seen.text
    assert "7 more operations are not shown here" in seen.text
    assert "3 s ago" in seen.text
    assert "5 failed, 40 sent, 55 queued of 100" in seen.text
    assert ("width", "55.00") in seen.attributes


async def test_the_page_links_to_everything_and_loads_nothing(parts: AppParts, web: httpx.AsyncClient):
    parts.snapshots = [a_snapshot(a_running_operation())]
    answer = await web.get("/")
    seen = Seen(answer.text)
    links = [value or "" for name, value in seen.attributes if name == "href"]
    for path in ("metrics", "api/v1/operations", "api/v1/overview", "openapi.json", "-/healthy", "-/ready"):
        assert path in links
    for link in (link for link in links if link != "data:," and not link.startswith("#")):
        assert not link.startswith("/")
        assert (await web.get("/" + link.replace(a_running_operation().id, ""))).status_code in {200, 404}
    assert not {"img", "iframe", "link"} & set(seen.tags[seen.tags.index("body") :])
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in {"src", "style", "action"}]


async def test_only_the_style_and_script_of_the_page_are_allowed_by_their_hashes(web: httpx.AsyncClient):
    answer = await web.get("/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    for tag, directive in (("style", "style-src"), ('script type="module"', "script-src")):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag.split()[0]}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy


def test_the_script_is_small_and_makes_no_html_of_text():
    assert len(SCRIPT.encode()) < 20_000
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser"):
        assert way not in SCRIPT


async def test_hostile_texts_show_as_text(parts: AppParts):
    operation = a_running_operation(account=HOSTILE, labels={"a": HOSTILE}, word=HOSTILE)
    parts.snapshots = [a_snapshot(operation, account=HOSTILE, statuses={HOSTILE: 1})]
    async with client_of(parts.admin()) as admin:
        page = (await admin.get("/")).text
    seen = Seen(page)
    assert seen.tags.count("script") == 1  # its own
    assert "<script>" in seen.text
    assert page.replace("&lt;script", "").count("<script") == 1


async def test_an_account_that_is_not_reached_says_why(parts: AppParts, web: httpx.AsyncClient):
    parts.snapshots = [
        AccountSnapshot(account="a", taken=NOW, up=True),
        AccountSnapshot(account="b", taken=NOW),
        AccountSnapshot(account="c", taken=NOW, unauthorized=True),
    ]
    text = Seen((await web.get("/")).text).text
    assert "aupnothing" in text
    assert "bnot reachednothing" in text
    assert "ccredentials refusednothing" in text
    assert "No operations are tracked at the moment." in text
    assert "As of 2027-01-15T08:00:00.000Z" in text


async def test_a_thousand_operations_are_rows_of_the_page(parts: AppParts, web: httpx.AsyncClient):
    parts.snapshots = [a_snapshot(*(a_running_operation(id=an_id(n)) for n in range(1000)))]
    rows = Seen((await web.get("/")).text).tags.count("tr")
    assert rows == 1000 + 1 + 4  # the headings of both tables, the account, and a blank row of each


async def test_the_newest_come_first_and_no_more_than_a_person_reads(parts: AppParts, web: httpx.AsyncClient):
    operations = [a_running_operation(id=an_id(n), registered_at=NOW.at + n * SECOND) for n in range(1002)]
    parts.snapshots = [a_snapshot(*operations, suppressed=5)]
    text = Seen((await web.get("/")).text).text
    assert text.index(an_id(1001)) < text.index(an_id(1000)) < text.index(an_id(2))
    assert an_id(1) not in text
    assert "7 more operations are not shown here" in text


async def test_an_unknown_status_is_shown_as_upstream_wrote_it(parts: AppParts, web: httpx.AsyncClient):
    parts.snapshots = [a_snapshot(an_operation(status=Status.UNKNOWN, word="NAPPING"))]
    assert "UNKNOWN (NAPPING)" in Seen((await web.get("/")).text).text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "just now"), (59, "59 s ago"), (60, "1 min ago"), (7300, "2 h ago"), (3 * 86400, "3 d ago"), (-5, "just now")],
)
async def test_ages_are_shown_as_a_single_number(parts: AppParts, web: httpx.AsyncClient, seconds: int, words: str):
    parts.snapshots = [a_snapshot(a_running_operation(progressed_at=NOW.at - seconds * SECOND))]
    assert words in Seen((await web.get("/")).text).text


# ── the overview ─────────────────────────────────────────────────────────────────────────────────────────────────────

OVERVIEW = "/api/v1/overview"


class Watching:
    """A client that requests the overview again and again, a second apart."""

    def __init__(self, parts: AppParts, client: httpx.AsyncClient) -> None:
        self._office = parts
        self._client = client
        self._seconds = 0
        self.bookmark = ""

    async def poll(self, **query: str) -> Any:
        self._seconds += 1
        later = NOW.later(self._seconds * SECOND)
        self._office.now = lambda: later
        since = {"since": self.bookmark} if self.bookmark else {}
        answer = (await self._client.get(OVERVIEW, params=since | query)).json()
        self.bookmark = answer["bookmark"]
        return answer


def ids(answer: Any) -> list[str]:
    return [operation["id"] for operation in answer["operations"]]


async def test_the_overview_returns_everything_first_and_then_only_changes(parts: AppParts, web: httpx.AsyncClient):
    watching = Watching(parts, web)
    one, two = a_running_operation(id=an_id(1)), a_running_operation(id=an_id(2))
    parts.snapshots = [a_snapshot(one, two, limit_per_second=5.0, statuses={"PROCESSING": 2, "UNSEEN": 0})]
    first = await watching.poll()
    assert (first["whole"], ids(first), first["gone"]) == (True, [one.id, two.id], [])
    assert first["stats"] == {"total": 200, "scheduled": 0, "queued": 110, "sent": 80, "failed": 10, "canceled": 0}
    (account,) = first["accounts"]
    assert (account["up"], account["limit_per_second"], account["statuses"]) == (True, 5.0, {"PROCESSING": 2})

    parts.snapshots = [a_snapshot(one.with_(asked_tick=7), two)]  # polled, without a change
    second = await watching.poll()
    assert (second["whole"], ids(second), second["bookmark"]) == (False, [], first["bookmark"])

    parts.snapshots = [a_snapshot(two.with_(status=Status.COMPLETED))]
    third = await watching.poll()
    assert (third["whole"], ids(third), third["gone"]) == (False, [two.id], [f"main:{one.id}"])
    assert third["stats"]["total"] == 100

    parts.snapshots = [a_snapshot(one, two.with_(status=Status.COMPLETED))]
    fourth = await watching.poll()
    assert (ids(fourth), fourth["gone"]) == ([one.id], [])
    late = await watching.poll(since=second["bookmark"])  # gone and back meanwhile
    assert (late["whole"], ids(late), late["gone"]) == (False, [one.id, two.id], [f"main:{one.id}"])


async def test_an_unknown_bookmark_is_answered_with_everything(parts: AppParts, web: httpx.AsyncClient):
    watching = Watching(parts, web)
    parts.snapshots = [a_snapshot(a_running_operation())]
    name = (await watching.poll())["bookmark"].partition("-")[0]
    for bookmark in ("0-0", f"{name}-999", "abc-1"):
        assert (await watching.poll(since=bookmark))["whole"]
    refused = await web.get(OVERVIEW, params={"since": "<script>"})
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["parameter"] == "since"


async def test_a_bookmark_older_than_the_kept_changes_is_answered_with_everything(
    parts: AppParts, web: httpx.AsyncClient
):
    watching = Watching(parts, web)
    parts.snapshots = [a_snapshot(a_running_operation())]
    old = (await watching.poll())["bookmark"]
    for generation in range(3):
        parts.snapshots = [a_snapshot(*(a_running_operation(id=an_id(generation * 1000 + n)) for n in range(700)))]
        assert not (await watching.poll())["whole"]
    assert (await watching.poll(since=old))["whole"]


async def test_labels_that_become_visible_are_sent_with_everything(parts: AppParts, web: httpx.AsyncClient):
    watching = Watching(parts, web)
    parts.snapshots = [a_snapshot(a_running_operation(labels={"campaign": "spring", "customer": "secret"}))]
    assert (await watching.poll())["operations"][0]["labels"] == {}
    parts.metric_labels = ["campaign"]
    again = await watching.poll()
    assert again["whole"]
    assert again["operations"][0]["labels"] == {"campaign": "spring"}


async def test_snapshots_are_compared_once_a_second_for_any_number_of_clients(parts: AppParts, web: httpx.AsyncClient):
    parts.snapshots = [a_snapshot()]
    assert (await web.get(OVERVIEW)).json()["operations"] == []
    parts.snapshots = [a_snapshot(a_running_operation())]
    assert (await web.get(OVERVIEW)).json()["operations"] == []
    parts.now = lambda: NOW.later(SECOND)
    assert len((await web.get(OVERVIEW)).json()["operations"]) == 1


async def test_counters_are_summed_over_their_labels(parts: AppParts, web: httpx.AsyncClient):
    values: dict[Key, float] = {
        ("operations", "completed"): 2.0,
        ("operations", "completed", "campaign=spring"): 3.0,
        ("notifications", "sent", "campaign=spring"): 40.0,
        ("notifications", "sent", "campaign=no longer shown"): 2.0,
    }
    shown = [("campaign=",), ("campaign=spring",)]
    state = CombinationState(created_at=NOW.at, tracked_at=NOW.at, shown_at=NOW.at, is_open=True)
    counters = counters_of(["campaign"], dict.fromkeys(shown, state), values.items())
    parts.snapshots = [a_snapshot(counters=counters)]
    (account,) = (await web.get(OVERVIEW)).json()["accounts"]
    assert account["finished"]["completed"] == 5
    assert account["notifications"] == {"sent": 42, "failed": 0, "canceled": 0}
