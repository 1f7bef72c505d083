"""A hundred thousand configurations, ids, bodies and answers that are mostly nonsense: clear errors, nothing else.

What is called here are the doors that such things come in by. An exception that a door does not name goes through and
fails the test, with a note by which the same nonsense can be made again.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from tests.support.certificates import Authority, hashed
from tests.support.factories import NOW, OPERATION_ID, at
from tests.support.nonsense import Nonsense
from watcher.cli.exits import FailedError
from watcher.cli.ids import read_ids
from watcher.config import ConfigurationError, describe, load, read_web_file, warnings_of
from watcher.config.schema import environment_name, settings
from watcher.core.model import created_hint, is_operation_id
from watcher.core.observation import Forbidden, Missing, Page, Record, Refused, Reply, Seen, Unanswered
from watcher.core.wire import CODES, code_label, read_fetch, read_page, read_record
from watcher.intake import EntriesRefusedError, Intake, MalformedError, NotAnIdError, NotFollowedError
from watcher.store.memory import MemoryStore

MANY = 25_000
SEED = 20_261_122
EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
TOKEN = "made-up-token-5a7f"
ACCOUNTS = ("main", "other")
NAMES = [environment_name(setting.path) for setting in settings()]


def all_of(kind: str, door: Callable[[Nonsense], str], many: int = MANY) -> Counter[str]:
    """How often each thing came of it, in the door's words."""
    came: Counter[str] = Counter()
    began = time.perf_counter()
    for number in range(many):
        seed = f"{kind} {SEED} {number}"
        try:
            came[door(Nonsense(seed))] += 1
        except BaseException as exc:
            exc.add_note(f"of Nonsense({seed!r})")
            raise
    print(f"{kind}: {many} in {time.perf_counter() - began:.0f} s, {dict(came)}")
    return came


def is_clear(message: str) -> bool:
    """Whether it can be shown on a terminal and written to a log: one line or more that are text, and no secret."""
    return bool(message) and all(char.isprintable() or char == "\n" for char in message) and TOKEN not in message


def clear(what: str, *messages: str) -> str:
    """What came of it, all that was said of it being clear."""
    assert messages
    assert all(map(is_clear, messages)), messages
    assert msgspec.json.encode(messages)
    return what


# ── configurations ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nonsense")
    (path / "token").write_text(TOKEN)
    Authority().server(path)
    return path


def test_configurations(folder: Path):
    whole: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    (account,) = whole["accounts"]
    del account["api_key"], account["api_key_secret_file"]
    account["auth_token_file"] = "token"
    sections = [{"accounts": whole["accounts"]}, *({name: whole[name]} for name in whole if name != "accounts")]
    file = folder / "config.yaml"

    def read(nonsense: Nonsense) -> str:
        file.write_bytes(nonsense.json(sections))
        environ = {"TWILIO_ACCOUNT_SID": "AC" + "0" * 32, "TWILIO_AUTH_TOKEN": TOKEN}
        if nonsense.rng.random() < 0.2:
            environ[nonsense.rng.choice(NAMES)] = nonsense.text().replace("\0", "")
        try:
            loaded = load(file, environ)
        except ConfigurationError as exc:
            return clear("reported", *map(str, exc.problems))
        assert is_clear("\n".join([*describe(loaded), *warnings_of(loaded), repr(loaded)]))
        return "taken"

    came = all_of("configuration", read, MANY - 5000)
    assert min(came["reported"], came["taken"]) > 1000


def test_web_configurations(folder: Path):
    whole = {
        "tls_server_config": {
            "cert_file": "server.crt",
            "key_file": "server.key",
            "client_auth_type": "NoClientCert",
            "min_version": "TLS12",
            "cipher_suites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
            "curve_preferences": ["X25519"],
        },
        "http_server_config": {"http2": False, "headers": {"X-Frame-Options": "deny"}},
        "basic_auth_users": {"alice": hashed("made-up")},
    }
    file = folder / "web.yml"

    def read(nonsense: Nonsense) -> str:
        file.write_bytes(nonsense.json([{name: one} for name, one in whole.items()]))
        try:
            found = read_web_file(str(file))
        except ConfigurationError as exc:
            return clear("reported", *map(str, exc.problems))
        assert is_clear(repr(found))
        return "taken"

    came = all_of("web configuration", read, 5000)
    assert min(came["reported"], came["taken"]) > 500


# ── ids ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_operation_ids():
    intake = an_intake()

    async def locate(text: str) -> str:
        try:
            await intake.locate(text)
        except NotAnIdError as exc:
            return clear("no id", str(exc))
        except NotFollowedError:
            return "id"
        return "followed"

    def read(nonsense: Nonsense) -> str:
        text = nonsense.text()
        if nonsense.rng.random() < 0.7:
            alphabet = "0123456789abcdefghjkmnpqrstvwxyz" + ("iIl\n٣" if nonsense.rng.random() < 0.3 else "")
            tail = "".join(nonsense.rng.choice(alphabet) for _ in range(nonsense.rng.randrange(22, 38)))
            text = f"comms_operation_{nonsense.rng.choice('01234567890')}{tail}"
            text = nonsense.broken(text.encode()).decode(errors="surrogateescape") if "0" in tail[:3] else text
        try:
            assert read_ids([text]) == [text]
            answer = "id"
        except FailedError as exc:
            answer = clear("no id", str(exc))
        assert (answer == "id") is is_operation_id(text)
        if answer == "id":
            hint = created_hint(text, NOW)
            assert hint is None or 0 < hint <= NOW
            assert json.loads(json.dumps(text)) == text
        assert runner.run(locate(text)) == answer or text == "-"
        return answer

    with asyncio.Runner() as runner:
        came = all_of("operation id", read)
    assert min(came.values()) > 1000


# ── bodies of requests ───────────────────────────────────────────────────────────────────────────────────────────────


def an_intake() -> Intake:
    return Intake(MemoryStore(), lambda: ACCOUNTS, lambda _: None, lambda: NOW)


def test_request_bodies():
    entry = {"id": OPERATION_ID, "account": "main", "labels": {"campaign": "spring", "team": "a"}}
    bare = {"id": OPERATION_ID.replace("9", "8"), "account": "other"}
    sane = [entry, [entry], [entry, bare], [bare, bare, entry], bare]

    async def take(body: bytes) -> str:
        try:
            registrations = await an_intake().take(body)
        except MalformedError as exc:
            return clear("malformed", str(exc))
        except EntriesRefusedError as exc:
            return clear("refused", str(exc), *(text for one in exc.errors for text in (one.why, one.id or "none")))
        assert all(is_operation_id(one.id) and one.account in ACCOUNTS for one in registrations)
        return "taken"

    with asyncio.Runner() as runner:
        came = all_of("request body", lambda nonsense: runner.run(take(nonsense.json(sane))))
    assert set(came) == {"malformed", "refused", "taken"}
    assert min(came.values()) > 1000


# ── what upstream answers ────────────────────────────────────────────────────────────────────────────────────────────

CODES_OF_HTTP = (*[200] * 24, 201, 204, 301, 400, 401, 403, 404, 418, 429, 500, 502, 503, 599, 999)


def test_upstream_answers():
    stats = dict.fromkeys(("total", "recipients", "queued", "sent", "scheduled", "unaddressable", "failed"), 7)
    moments = {"createdAt": "2026-01-15T09:30:00Z", "updatedAt": "2026-01-15T09:30:01.5Z"}
    operation = {"id": OPERATION_ID, "status": "PROCESSING", "stats": stats} | moments
    page = {"operations": [operation, operation], "pagination": {"next": "token", "self": None}}
    failure = {"errors": [{"code": 20003, "message": "no"}], "code": 20003}

    def reply(nonsense: Nonsense) -> Reply:
        dates = ("Thu, 15 Jan 2026 09:30:05 GMT", "7", "-1", "1e3", nonsense.text())
        names = ("date", "retry-after", "twilio-request-id", "x-twilio-request-id")
        headers = {name: nonsense.rng.choice(dates) for name in names if nonsense.rng.random() < 0.5}
        body = nonsense.json([operation, page, failure])
        code = nonsense.rng.choice(CODES_OF_HTTP)
        return Reply(asked=at(0), answered=at(1), code=code, headers=headers, body=body)

    def read(nonsense: Nonsense) -> str:
        given = reply(nonsense)
        fetched, listed, record = read_fetch(given, OPERATION_ID), read_page(given), read_record(given.body)
        assert isinstance(fetched, Seen | Missing | Refused | Forbidden | Unanswered)
        assert isinstance(listed, Page | Missing | Refused | Forbidden | Unanswered)
        assert isinstance(record, Record | None)
        for one in (fetched, listed):
            assert code_label(one, given.code) in CODES
            # What is stored, published and shown of it is text.
            assert msgspec.json.encode(one)
            if isinstance(one, Missing | Refused | Forbidden | Unanswered):
                assert is_clear(one.why)
        assert not isinstance(fetched, Seen) or fetched.record.word is None or is_clear(fetched.record.word or "?")
        return f"{type(fetched).__name__} {type(listed).__name__}"

    came = all_of("upstream answer", read)
    assert {"Seen Unanswered", "Unanswered Page", "Missing Missing", "Refused Refused"} <= set(came)
    assert came["Seen Unanswered"] > 1000
