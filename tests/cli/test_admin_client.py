"""track, untrack, list and show, against an admin listener with a store in memory."""

import asyncio
import io
import json
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from tests.cli.running import Command, an_id, aside, in_background, on_a_terminal, process
from tests.server.serving import NOW, AppParts, a_running_operation, a_snapshot, listening
from watcher.cli import track
from watcher.cli.exits import Exit
from watcher.cli.listing import drawn
from watcher.core.channels import Stats
from watcher.core.clocks import ClockReading
from watcher.core.lifecycle import LifecycleRules, observe
from watcher.core.model import SECOND, Operation, OperationEvent, Source
from watcher.core.observation import Record, Seen, Timing
from watcher.core.snapshot import NextPoll
from watcher.intake import TrackRequest
from watcher.server import Listener
from watcher.store import Change

pytestmark = pytest.mark.usefixtures("admin")


def do(what: Awaitable[Any]) -> Any:
    async def doing() -> Any:
        return await what

    return aside(asyncio.run, doing())


def register(parts: AppParts, *numbers: int, account: str = "main", **labels: str) -> None:
    entries = [TrackRequest(id=an_id(number), account=account, labels=labels) for number in numbers]
    do(parts.intake.register(entries, Source.API))


def observe_twice(parts: AppParts, number: int, word: str, **stats: int) -> Operation:
    """Store two equal observations of an operation, so that an end is confirmed and final."""
    (found,) = do(parts.store.find(an_id(number)))
    record = Record(id=an_id(number), word=word, stats=Stats(**stats), created_at=NOW.at, updated_at=NOW.at + SECOND)
    reading = ClockReading(machine_at=NOW.at, upstream_at=NOW.at)
    events: list[OperationEvent] = []
    operation: Operation = found.operation
    for seconds in (0, 5):
        polled = NOW.later(seconds * SECOND)
        seen = Seen(timing=Timing(asked=polled, answered=polled), record=record)
        step = observe(operation, seen, reading, LifecycleRules(settle_after=()))
        operation = step.operation
        events.extend(step.events)
    change = Change(operation=operation, events=tuple((NOW.at, event) for event in events))
    do(parts.store.commit(found.operation.account, [change]))
    return operation


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))


# ── track ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_track_prints_the_result_for_each_operation(watcher: Command, parts: AppParts):
    register(parts, 1, 2)
    observe_twice(parts, 2, "COMPLETED", total=1, sent=1)
    ended = watcher("track", an_id(1), an_id(2), an_id(3), "--label", "team=blue", "--label", "run=a=b")
    assert (ended.code, ended.err) == (Exit.GOOD, "")
    assert ended.out.splitlines() == [
        f"{an_id(1)} known",
        f"{an_id(2)} finished (completed)",
        f"{an_id(3)} new",
        "3 operations: 1 already tracked, 1 ended before, 1 newly tracked",
    ]
    (found,) = do(parts.store.find(an_id(3)))
    assert found.operation.labels == {"team": "blue", "run": "a=b"}


def test_track_answers_programs_with_the_json_of_the_api(watcher: Command):
    ended = watcher("track", an_id(1), "--json")
    assert json.loads(ended.out) == {"operations": [{"id": an_id(1), "account": "main", "result": "new"}]}


def test_ids_come_from_standard_input_too(watcher: Command, parts: AppParts, monkeypatch: pytest.MonkeyPatch):
    feed(monkeypatch, f"{an_id(2)} {an_id(3)}\n\n  {an_id(1)}\r\n".encode())
    ended = watcher("track", an_id(1), "-")
    assert ended.out.splitlines()[:-1] == [f"{an_id(number)} new" for number in (1, 2, 3)]


@pytest.mark.parametrize(("content", "why"), [(b" \n", "no ids were given"), (b"\xff\n", "is not UTF-8 text")])
def test_nothing_readable_on_standard_input_is_2(
    watcher: Command, monkeypatch: pytest.MonkeyPatch, content: bytes, why: str
):
    feed(monkeypatch, content)
    ended = watcher("track", "-")
    assert ended.code == Exit.USAGE
    assert why in ended.err


def test_malformed_ids_are_reported_before_any_request(
    watcher: Command, parts: AppParts, monkeypatch: pytest.MonkeyPatch
):
    feed(monkeypatch, (f"{an_id(2)}\n" + "\x1b[31m../x " * 12).encode())
    ended = watcher("track", an_id(1), "-")
    assert ended.code == Exit.USAGE
    lines = ended.err.splitlines()
    assert lines[0] == 'watcher track: standard input, line 2: "\\x1b[31m../x" is not an operation id'
    assert lines[10:] == [
        "… and 2 more",
        "expected comms_operation_, one of 0-7, then 25 to 34 of a-z (without i, l, o, u) and 0-9",
    ]
    assert do(parts.store.find(an_id(1))) == ()


def test_a_long_list_is_sent_in_batches_that_the_daemon_accepts(watcher: Command, monkeypatch: pytest.MonkeyPatch):
    feed(monkeypatch, "\n".join(an_id(number) for number in range(10_001)).encode())
    ended = watcher("track", "-")
    assert ended.code == Exit.GOOD
    assert ended.out.splitlines()[-1] == "10,001 operations: 10,001 newly tracked"


def test_ids_are_sent_in_the_fewest_batches_within_the_size_limit():
    large = [b"x" * (track.BATCH_BYTES // 3)] * 7
    assert [len(batch) for batch in track.batches(large)] == [3, 3, 1] or [
        len(batch) for batch in track.batches(large)
    ] == [2, 2, 2, 1]
    assert [len(batch) for batch in track.batches([b"x"] * 20_001)] == [10_000, 10_000, 1]
    assert [len(batch) for batch in track.batches([b"x" * track.BATCH_BYTES * 2] * 2)] == [1, 1]


def test_batches_accepted_before_a_refusal_are_printed(
    watcher: Command, parts: AppParts, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(track, "BATCH_BYTES", 1)  # one at a time
    parts.accounts.append("other")
    register(parts, 2, account="other")
    ended = watcher("track", an_id(1), an_id(2), an_id(3), "--account", "main")
    assert ended.code == Exit.USAGE
    assert ended.out == f"{an_id(1)} new\n"
    assert 'tracked under the account "other"' in ended.err


def test_each_entry_that_the_daemon_refuses_is_reported(watcher: Command):
    ended = watcher("track", *(an_id(number) for number in range(25)), "--label", "account=x")
    assert (ended.code, ended.out) == (Exit.USAGE, "")
    lines = ended.err.splitlines()
    assert lines[0].startswith("watcher track: 25 of 25 entries refused, nothing was kept (400 from http://127.0.0.1:")
    assert lines[1] == f'  "{an_id(0)}": the label "account" is used by the watcher itself'
    assert lines[-1] == "  … and 5 more"


# ── untrack ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_untrack_continues_after_an_operation_that_is_not_tracked(watcher: Command, parts: AppParts):
    register(parts, 1, 3)
    ended = watcher("untrack", an_id(1), an_id(2), an_id(3))
    assert ended.code == Exit.ENDED_BADLY
    assert ended.out == f"{an_id(1)} untracked\n{an_id(3)} untracked\n"
    assert ended.err == f"watcher untrack: {an_id(2)} is not tracked\n"
    assert watcher("untrack", an_id(1)).code == Exit.ENDED_BADLY


def test_untrack_uses_the_account_option_where_there_are_several(watcher: Command, parts: AppParts):
    parts.accounts.append("other")
    do(parts.store.register([], NOW.at))
    register(parts, 1)
    assert watcher("untrack", an_id(1), "--account", "other").code == Exit.ENDED_BADLY
    unknown = watcher("untrack", an_id(1), "--account", "unknown")
    assert unknown.code == Exit.USAGE
    assert 'account: unknown account "unknown"; configured: "main", "other"' in unknown.err
    assert watcher("untrack", an_id(1), "--account", "main").code == Exit.GOOD


# ── list ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_list_is_a_table_in_which_nothing_is_cut_off(watcher: Command, parts: AppParts):
    register(parts, 1, 2)
    register(parts, 3, team="x" * 60, zone="\x1b[2J")
    observe_twice(parts, 1, "PROCESSING", total=1000, sent=40, failed=5, unaddressable=2)
    observe_twice(parts, 2, "PAUSED")
    ended = watcher("list")
    assert (ended.code, ended.err) == (Exit.GOOD, "")
    heading, first, second, third = ended.out.splitlines()
    assert heading.split() == ["OPERATION", "STATUS", "SENT", "FAILED", "UNADDRESSABLE", "CHANGED", "LABELS"]
    assert first.split()[:7] == [an_id(1), "PROCESSING", "40", "of", "1,000", "5", "2"]
    assert second.split()[:3] == [an_id(2), "UNKNOWN", "(PAUSED)"]
    assert third.split()[:2] == [an_id(3), "UNSEEN"]
    assert f"team={'x' * 60}, zone=\\x1b[2J" in third


def test_an_empty_list_says_so(watcher: Command):
    assert watcher("list").out == "no operations\n"


def test_list_filters_and_stops_at_its_limit(watcher: Command, parts: AppParts):
    parts.accounts.append("other")
    register(parts, 1, 2, 3)
    register(parts, 4, account="other")
    observe_twice(parts, 2, "COMPLETED", total=1, sent=1)
    assert [line.split()[0] for line in watcher("list", "--status", "completed").out.splitlines()[1:]] == [an_id(2)]
    assert an_id(4) not in watcher("list", "--account", "main").out
    assert "ACCOUNT" in watcher("list").out
    limited = watcher("list", "--limit", "2").out.splitlines()
    assert [line.split()[0] for line in limited[1:3]] == [an_id(1), an_id(2)]
    assert limited[3] == "and more; --limit sets how many are shown (now 2)"


def test_list_answers_programs_with_the_json_of_the_api(watcher: Command, parts: AppParts, admin: Listener):
    register(parts, *range(5), team="blue")
    observe_twice(parts, 2, "PROCESSING", total=10, sent=4)
    answer = httpx.get(f"{admin.addresses[0]}/api/v1/operations", params={"limit": 3}, trust_env=False, verify=False)
    assert watcher("list", "--json", "--limit", "3").out == answer.text + "\n"


def test_list_reads_all_pages(watcher: Command, parts: AppParts):
    register(parts, *range(1002))
    page = json.loads(watcher("list", "--json", "--limit", "1001").out)
    assert [one["id"] for one in page["operations"]] == [an_id(number) for number in range(1001)]
    assert page["next"] == f"main:{an_id(1000)}"
    assert json.loads(watcher("list", "--json", "--limit", "5000").out)["next"] is None


def test_a_bad_status_is_the_commands_fault(watcher: Command):
    ended = watcher("list", "--status", "running")
    assert ended.code == Exit.USAGE
    assert "status: expected one of UNSEEN, SCHEDULED" in ended.err


def test_on_a_terminal_the_table_stays_within_it(parts: AppParts):
    register(parts, 1, 2, campaign="y" * 128)
    observe_twice(parts, 1, "PROCESSING", total=1000, sent=40, failed=5)
    code, written = on_a_terminal("list", columns=80)
    assert code == Exit.GOOD
    assert "\x1b[31m" in written  # failures stand out
    assert max(map(len, plain(written).splitlines())) <= 80


def test_an_id_is_never_cut_off_on_a_terminal():
    console = Console(file=io.StringIO(), force_terminal=True, width=60, color_system=None)
    row = {"operation": an_id(1), "status": "COMPLETED", "failed": "3", "labels": "z" * 90}
    console.print(drawn([row]))
    assert isinstance(console.file, io.StringIO)
    assert "".join(line.split()[0] for line in console.file.getvalue().splitlines()[3:] if line.strip()) == an_id(1)


# ── show ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_show_prints_the_history_and_the_next_poll(watcher: Command, parts: AppParts):
    register(parts, 1, team="blue")
    observe_twice(parts, 1, "PROCESSING", total=100, recipients=90, sent=40, failed=5, queued=55, unaddressable=2)
    parts.next_polls["main", an_id(1)] = NextPoll(due_tick=NOW.tick + 3 * SECOND, how="GET by id", why="freshness")
    ended = watcher("show", an_id(1))
    assert (ended.code, ended.err) == (Exit.GOOD, "")
    stats = "40 of 100 sent, 5 failed, 55 queued, 2 of 90 recipients unaddressable"
    facts, _, history = ended.out.partition("\n\n")
    assert facts.splitlines() == [
        f"operation:  {an_id(1)}",
        "account:    main",
        "status:     PROCESSING",
        f"stats:      {stats}",
        "labels:     team=blue",
        "source:     api, registered 2027-01-15 08:00:00 UTC",
        "created:    2027-01-15 08:00:00 UTC",
        "updated:    2027-01-15 08:00:01 UTC",
        "progressed: 2027-01-15 08:00:00 UTC",
        "next poll:  in 3.0 s (2027-01-15 08:00:03 UTC), by GET by id: freshness",
    ]
    assert history.splitlines() == [
        "2027-01-15 08:00:00 UTC  operation.tracked  source api",
        f"2027-01-15 08:00:00 UTC  operation.moved  UNSEEN to PROCESSING, {stats}",
        f"2027-01-15 08:00:00 UTC  operation.failing  {stats}",
    ]


def test_show_knows_every_stage(watcher: Command, parts: AppParts):
    register(parts, 1)
    assert "next poll:  not planned yet" in watcher("show", an_id(1)).out
    parts.next_polls["main", an_id(1)] = NextPoll(due_tick=NOW.tick - 2 * SECOND, how="GET by id", why="first poll")
    assert "next poll:  due since 2.0 s (" in watcher("show", an_id(1)).out
    observe_twice(parts, 1, "COMPLETED", total=1, sent=1)
    parts.next_polls.clear()
    out = watcher("show", an_id(1)).out
    assert "next poll:  none, its stats are final" in out
    assert "operation.finished  completed, 1 of 1 sent, duration_seconds 1.0" in out


def test_show_answers_programs_with_the_json_of_the_api(watcher: Command, parts: AppParts, admin: Listener):
    register(parts, 1)
    answer = httpx.get(f"{admin.addresses[0]}/api/v1/operations/{an_id(1)}", trust_env=False, verify=False)
    assert watcher("show", an_id(1), "--json").out == answer.text + "\n"


def test_show_prefers_what_was_seen_last(watcher: Command, parts: AppParts):
    register(parts, 1)
    parts.snapshots = [a_snapshot(a_running_operation(id=an_id(1)))]
    assert "PROCESSING" in watcher("show", an_id(1)).out


def test_show_draws_on_a_terminal(parts: AppParts):
    register(parts, 1)
    code, written = on_a_terminal("show", an_id(1), columns=70)
    assert code == Exit.GOOD
    assert "operation.tracked" in written
    assert max(map(len, plain(written).splitlines())) <= 70


def test_show_accepts_a_single_id_of_a_tracked_operation(watcher: Command, monkeypatch: pytest.MonkeyPatch):
    unknown = watcher("show", an_id(1))
    assert unknown.code == Exit.ENDED_BADLY
    assert f"{an_id(1)} is not tracked (404 from " in unknown.err
    feed(monkeypatch, f"{an_id(1)} {an_id(2)}".encode())
    assert watcher("show", "-").code == Exit.USAGE


# ── finding the daemon ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_daemon_is_where_the_url_says(
    watcher: Command, parts: AppParts, monkeypatch: pytest.MonkeyPatch, admin: Listener
):
    monkeypatch.setenv("WATCHER_ADMIN__LISTEN", "localhost:1")
    assert watcher("list", "--url", admin.addresses[0]).code == Exit.GOOD
    assert watcher("list", "--url", admin.addresses[0] + "/").code == Exit.GOOD


@pytest.mark.parametrize(
    "url",
    [
        "",
        "watcher",
        "ftp://x",
        "http://",
        "http://x:0",
        "http://x:99999",
        "http://a:b@x",
        "http://x?y",
        "unix:x",
        "http://[::1",
        "http://[v1.x]:1",
        "http://a..b:1",
        "http://xn--a:1",
        f"http://{'x' * 70}:1",
    ],
)
def test_a_bad_url_is_2(watcher: Command, url: str):
    ended = watcher("list", f"--url={url or 'x'}")
    assert ended.code == Exit.USAGE
    assert "expected http://host:port, https://host:port or unix:/path" in ended.err


def test_the_daemon_is_where_the_file_says_whatever_else_is_wrong_in_it(
    watcher: Command, parts: AppParts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    path = tmp_path / "admin.sock"
    monkeypatch.delenv("WATCHER_ADMIN__LISTEN")
    file = tmp_path / "c.yaml"
    file.write_text(f"accounts: [{{nam: main}}]\nadmin: {{listen: 'unix:{path}'}}\npolling: 7\n")
    with in_background(lambda: listening(parts.admin(is_unix=True), f"unix:{path}")):
        assert watcher("list", "--config", str(file)).out == "no operations\n"
        monkeypatch.setenv("WATCHER_CONFIG", str(file))
        assert watcher("list").out == "no operations\n"
        monkeypatch.delenv("WATCHER_CONFIG")
        assert watcher("list", "--url", f"unix:{path}").out == "no operations\n"
    # In a process of its own: httpcore leaves a socket that could not connect to the garbage collector, which warns.
    gone = process("list", "--config", str(file))
    assert f"cannot reach the daemon at unix:{path}: " in gone.communicate(timeout=30)[1]
    assert gone.returncode == Exit.UNREACHABLE


@pytest.mark.parametrize("text", ["admin: {listen: 7}", "admin: [", "admin: {lisen: ':1'}"])
def test_a_file_that_does_not_say_where_is_2(watcher: Command, tmp_path: Path, text: str):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    ended = watcher("list", "--config", str(file))
    assert ended.code == Exit.USAGE
    assert ended.err.startswith(f"{file}:1: ")
    assert watcher("list", "--config", str(tmp_path / "none")).code == Exit.USAGE


def test_a_bad_setting_of_the_environment_is_2(watcher: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WATCHER_ADMIN__LISTEN", "nowhere")
    assert watcher("list").err.startswith("environment: WATCHER_ADMIN__LISTEN: expected host:port")


def test_a_port_that_the_system_chose_is_not_guessed(watcher: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WATCHER_ADMIN__LISTEN", "localhost:0")
    ended = watcher("list")
    assert ended.code == Exit.USAGE
    assert "use --url to say where the daemon is" in ended.err


@pytest.mark.parametrize("listen", [":1", "0.0.0.0:1", "[::]:1", "[::1]:1", "localhost:1"])
def test_an_unreachable_daemon_is_4(watcher: Command, monkeypatch: pytest.MonkeyPatch, listen: str):
    monkeypatch.setenv("WATCHER_ADMIN__LISTEN", listen)
    ended = watcher("track", an_id(1))
    assert (ended.code, ended.out) == (Exit.UNREACHABLE, "")
    assert ended.err.count("\n") == 1
    assert "is the daemon running there? --config or --url says where it is" in ended.err


def test_commands_send_the_token_of_the_configured_file(
    watcher: Command, parts: AppParts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    file = tmp_path / "token"
    file.write_text("secret-5a7f\n")
    with in_background(lambda: listening(parts.admin(token=lambda: "secret-5a7f"))) as listener:
        url = listener.addresses[0]
        refused = watcher("list", "--url", url)
        assert refused.code == Exit.USAGE
        assert "set admin.token_file in --config, or WATCHER_ADMIN__TOKEN_FILE" in refused.err
        monkeypatch.setenv("WATCHER_ADMIN__TOKEN_FILE", str(file))
        assert watcher("list", "--url", url).code == Exit.GOOD
        file.write_text("")
        empty = watcher("list", "--url", url)
    assert empty.code == Exit.USAGE
    assert empty.err == f"watcher list: {file} is empty; write the secret into it\n"


def test_the_web_listener_cannot_be_used_to_change_anything(watcher: Command, parts: AppParts):
    with in_background(lambda: listening(parts.web())) as listener:
        ended = watcher("track", an_id(1), "--url", listener.addresses[0])
        listed = watcher("list", "--url", listener.addresses[0])
    assert ended.code == Exit.USAGE
    assert "use the admin listener, not web" in ended.err
    assert listed.code == Exit.GOOD


async def elsewhere(scope: Any, receive: Any, send: Any) -> None:
    """Something that is no watcher: 404 and HTML for everything, 503 for POST."""
    status = 503 if scope["method"] == "POST" else 404
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"<html>"})


def test_an_answer_of_another_program_is_recognized(watcher: Command):
    with in_background(lambda: listening(elsewhere)) as listener:
        url = listener.addresses[0]
        missing = watcher("show", an_id(1), "--url", url)
        unable = watcher("track", an_id(1), "--url", url)
    assert missing.code == Exit.USAGE
    assert "use the admin listener of a watcher; --url says where it is" in missing.err
    assert unable.code == Exit.UNREACHABLE


def plain(written: str) -> str:
    """What a terminal shows of it, without colours."""
    return "".join(
        part.partition("m")[2] if index else part for index, part in enumerate(written.split("\x1b["))
    ).replace("\r", "")
