"""The status page."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import httpx

from tests.server.serving import NOW, Office, a_running_operation, a_snapshot, an_id, an_operation, client_of
from watcher.core.model import Stats, Status
from watcher.core.snapshot import AccountSnapshot

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


async def test_it_shows_what_is_followed_failures_first(office: Office, web: httpx.AsyncClient):
    calm = a_running_operation(id=an_id(1), stats=Stats(total=10, sent=10))
    failing = a_running_operation(id=an_id(2))
    unseen = an_operation(id=an_id(0))
    ended = an_operation(id=an_id(3), status=Status.COMPLETED, stats=Stats(total=1, sent=1))
    office.snapshots = [
        a_snapshot(ended, calm, unseen, failing, statuses={"PROCESSING": 2, "UNSEEN": 1, "UNKNOWN": 0}, suppressed=7)
    ]
    answer = await web.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    seen = Seen(answer.text)
    places = [seen.text.index(an_id(n)) for n in (2, 0, 1, 3)]
    assert places == sorted(places)
    assert "2 PROCESSING, 1 UNSEEN" in seen.text
    assert "7 more do not show here" in seen.text
    assert "3 s ago" in seen.text
    assert ("aria-label", "5 failed, 40 sent, 55 queued of 100") in seen.attributes


async def test_it_links_to_everything_and_loads_nothing(office: Office, web: httpx.AsyncClient):
    office.snapshots = [a_snapshot(a_running_operation())]
    answer = await web.get("/")
    seen = Seen(answer.text)
    links = [value or "" for name, value in seen.attributes if name == "href"]
    for path in ("/metrics", "/api/v1/operations", "/openapi.json", "/-/healthy", "/-/ready"):
        assert path in links
    for link in (link for link in links if link != "data:,"):
        assert (await web.get(link.replace(a_running_operation().id, ""))).status_code in {200, 404}
    assert not {"script", "img", "iframe", "form"} & set(seen.tags)
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in {"src", "style"}]


async def test_its_style_is_allowed_by_its_hash(web: httpx.AsyncClient):
    answer = await web.get("/")
    (style,) = re.findall("<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy
    assert "prefers-color-scheme: dark" in style


async def test_hostile_texts_show_as_text(office: Office):
    operation = a_running_operation(account=HOSTILE, labels={"a": HOSTILE}, word=HOSTILE)
    office.snapshots = [a_snapshot(operation, account=HOSTILE, statuses={HOSTILE: 1})]
    async with client_of(office.admin()) as admin:
        page = (await admin.get("/")).text
    seen = Seen(page)
    assert "script" not in seen.tags
    assert "<script>" in seen.text
    assert "<script" not in page.replace("&lt;script", "")


async def test_an_account_that_is_not_reached_says_why(office: Office, web: httpx.AsyncClient):
    office.snapshots = [
        AccountSnapshot(account="a", taken=NOW, up=True),
        AccountSnapshot(account="b", taken=NOW),
        AccountSnapshot(account="c", taken=NOW, unauthorized=True),
    ]
    text = Seen((await web.get("/")).text).text
    assert "a up nothing followed" in text
    assert "b not reached" in text
    assert "c credentials refused" in text
    assert "Nothing is followed at the moment." in text
    assert "As of 2027-01-15T08:00:00.000Z" in text


async def test_a_thousand_operations_come_in_pieces(office: Office, web: httpx.AsyncClient):
    office.snapshots = [a_snapshot(*(a_running_operation(id=an_id(n)) for n in range(1000)))]
    assert (await web.get("/")).text.count("<tr") == 1001
