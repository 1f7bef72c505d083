"""No secret of a run shows anywhere: not in commands, pages, events, metrics, tracebacks, stack dumps or the store."""

from __future__ import annotations

import base64
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.certificates import Authority, hashed, write_web_file
from tests.support.processes import (
    ACCOUNT_ID,
    API_KEY,
    Daemon,
    Simulator,
    daemon_of,
    environment,
    simulating,
    until,
)
from watcher.cli.parser import parser
from watcher.server.api.app_context import Side
from watcher.server.api.endpoints import endpoints_of

OTHER_ACCOUNT_ID = "AC" + "1" * 32
AN_ID = "comms_operation_01h9krwprkeee8fzqspvwy6nq8"
PAGES = (
    "/",
    "/metrics",
    "/-/healthy",
    "/-/ready",
    "/openapi.json",
    "/api/v1/overview",
    "/api/v1/operations",
    f"/api/v1/operations/{AN_ID}",
    "/api/v1/operations?status=nonsense&limit=x",
    "/api/v1/operations/nonsense",
    "/nowhere",
)
COMMANDS = re.findall(r"^    ([a-z]+)(?= |$)", parser().format_help(), re.MULTILINE)
CHANGES = (("POST", "/-/reload"), ("POST", "/api/v1/operations"), ("DELETE", f"/api/v1/operations/{AN_ID}"))


def test_every_page_is_driven():
    known = {(one.method, one.path.replace("{id}", AN_ID)) for one in endpoints_of(Side.ADMIN)}
    assert known <= {*(("GET", page) for page in PAGES), *CHANGES}


def made_up() -> str:
    return secrets.token_hex(16)


@dataclass(frozen=True)
class Secrets:
    """What must not show. Each secret has a name, so that a find says which."""

    auth_token: str
    next_auth_token: str
    api_key_secret: str
    admin_token: str
    password: str
    password_hash: str
    key: str

    def shapes(self) -> Iterator[tuple[str, bytes]]:
        """Each as it is, and as HTTP Basic would carry it."""
        users = {
            "auth_token": ACCOUNT_ID,
            "next_auth_token": ACCOUNT_ID,
            "api_key_secret": API_KEY,
            "password": "alice",
        }
        for name, value in vars(self).items():
            for line in value.split("\n"):
                yield name, line.encode()
            if name in users:
                pair = base64.b64encode(f"{users[name]}:{value}".encode())
                yield f"{name} in Basic", pair

    def found_in(self, what: Mapping[str, bytes]) -> list[str]:
        return [f"{name} in {place}" for place, text in what.items() for name, shape in self.shapes() if shape in text]


@pytest.fixture
def those(tmp_path: Path) -> Secrets:
    Authority().server(tmp_path)
    key = [line for line in (tmp_path / "server.key").read_text().split("\n") if line and "-----" not in line]
    password = made_up()
    return Secrets(
        auth_token=made_up(),
        next_auth_token=made_up(),
        api_key_secret=made_up(),
        admin_token=made_up(),
        password=password,
        password_hash=hashed(password),
        key="\n".join(key),
    )


def settings(folder: Path, simulator: Simulator, those: Secrets) -> dict[str, Any]:
    write_web_file(folder, tls={}, basic_auth_users={"alice": those.password_hash})
    for name in ("auth_token", "api_key_secret", "admin_token"):
        (folder / name).write_text(getattr(those, name) + "\n")
    main = {"name": "main", "account_id": ACCOUNT_ID, "auth_token_file": "auth_token", "base_url": simulator.base_url}
    other = {"name": "other", "account_id": OTHER_ACCOUNT_ID, "api_key": API_KEY} | {
        "api_key_secret_file": "api_key_secret",
        "base_url": simulator.base_url,
    }
    return {
        "accounts": [main | {"operations": [AN_ID]}, other],
        "polling": {"freshness": "500ms"},
        "web": {"config_file": "web.yml"},
        "admin": {"token_file": "admin_token"},
        "log": {"level": "debug"},
    }


def scenario(those: Secrets) -> str:
    accounts = [
        {"account_id": ACCOUNT_ID, "auth_token": those.auth_token},
        {"account_id": OTHER_ACCOUNT_ID, "api_key": API_KEY, "api_key_secret": those.api_key_secret},
    ]
    return yaml.safe_dump({"accounts": accounts, "operations": [{"id": AN_ID, "created": "0s", "completed": "10m"}]})


def run(*arguments: str, env: Mapping[str, str], given: str = "") -> bytes:
    """Whatever a command says; how it ends is not the question."""
    command = [sys.executable, "-m", "watcher", *arguments]
    done = subprocess.run(
        command, env=environment(env), input=given.encode(), capture_output=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


def drive_pages(daemon: Daemon, those: Secrets) -> dict[str, bytes]:
    web = daemon.web.replace("http:", "https:")
    output: dict[str, bytes] = {}
    ways: list[tuple[str, str, dict[str, Any]]] = [
        ("web", web, {"auth": ("alice", those.password)}),
        ("web, password wrong", web, {"auth": ("alice", "wrong")}),
        ("web, user wrong", web, {"auth": (those.password, "x")}),
        ("admin", daemon.admin, {"headers": {"Authorization": f"Bearer {those.admin_token}"}}),
        ("admin, token wrong", daemon.admin, {"headers": {"Authorization": "Bearer wrong"}}),
        ("admin, host wrong", daemon.admin, {"headers": {"Host": "elsewhere"}}),
    ]
    for name, base, more in ways:
        with httpx.Client(verify=False, trust_env=False, timeout=30) as client:
            for page in PAGES:
                answer = client.get(base + page, **more)
                output[f"{name}: {page}"] = str(answer.headers).encode() + answer.content
            for method, path in CHANGES:
                answer = client.request(method, base + path, content=b'{"id": 1}', **more)
                output[f"{name}: {method} {path}"] = str(answer.headers).encode() + answer.content
    return output


def drive_commands(folder: Path, daemon: Daemon, those: Secrets) -> dict[str, bytes]:
    config = ("--config", str(folder / "watcher.yaml"))
    lines = [
        ("--version",),
        ("--help",),
        ("check", *config),
        ("list", *config),
        ("list", "--json", *config),
        ("show", AN_ID, *config),
        ("track", AN_ID, "--account", "main", "--label", "a=b", *config),
        ("untrack", "nonsense", *config),
        ("wait", AN_ID, "--timeout", "2s", *config),
        ("healthcheck", *config),
        ("run", *config),
        ("simulate", "--scenario", str(folder / "nonsense.yaml")),
        ("demo", "--operations", "1", "--duration", "1s"),
    ]
    assert {line[0] for line in lines} - {"--version", "--help"} == set(COMMANDS)
    output = {" ".join(line): run(*line, env=daemon.env) for line in lines}
    in_environment = {"TWILIO_ACCOUNT_SID": ACCOUNT_ID, "TWILIO_AUTH_TOKEN": those.auth_token}
    output["check, of the environment"] = run("check", env=in_environment)
    output["check, control character"] = run(
        "check", env={**in_environment, "TWILIO_AUTH_TOKEN": f"{those.auth_token}\x01"}
    )
    output["check, pair doubled"] = run(
        "check",
        env={**in_environment, "TWILIO_API_KEY": those.auth_token, "TWILIO_API_KEY_SECRET": those.api_key_secret},
    )
    output["wait, closed port"] = run("wait", AN_ID, "--timeout", "1s", env=in_environment | CLOSED_PORT)
    return output


CLOSED_PORT = {"WATCHER_ACCOUNTS__0__BASE_URL": "http://127.0.0.1:1/v1"}

MISPLACED: Mapping[str, str] = {
    "as the token itself": "accounts: [{{name: main, auth_token: {auth_token}}}]",
    "as a file": "accounts: [{{name: main, account_id: AC, auth_token_file: {auth_token}}}]",
    "as the key": "accounts: [{{name: main, api_key: {api_key_secret}, api_key_secret_file: {api_key_secret}}}]",
    "as the account": "accounts: [{{name: main, account_id: {auth_token}}}]",
    "in a URL": "accounts: [{{name: main, base_url: 'https://a:{auth_token}@x.test/'}}]",
    "in broken YAML": "accounts: [{{name: main, auth_token: {auth_token}]",
    "as the admin token": "admin: {{token: {admin_token}}}",
    "as a tag": "admin: {{token_file: !{admin_token} x}}",
}
MISPLACED_IN_WEB: Mapping[str, str] = {
    "password": "basic_auth_users: {{alice: {password}}}",
    "hash of the wrong kind": "basic_auth_users: {{alice: '{password_hash}x'}}",
    "key": "tls_server_config:\n  cert: x\n  key: |\n    {first_line}\n",
    "key for a certificate": "tls_server_config: {{cert_file: server.key, key_file: server.key}}",
    "encrypted": "tls_server_config: {{cert_file: server.crt, key_file: web.yml}} # {password}",
}


def misplace(folder: Path, those: Secrets) -> dict[str, bytes]:
    """Secrets written where they do not belong: the message names the place, never the secret."""
    values = vars(those) | {"first_line": those.key.split("\n")[0]}
    place = folder / "misplaced"
    place.mkdir()
    for name in ("server.key", "server.crt"):
        (place / name).write_bytes((folder / name).read_bytes())
    output = {}
    for name, text in MISPLACED.items():
        (place / "c.yaml").write_text(text.format(**values))
        output[f"misplaced {name}"] = run("check", "--config", str(place / "c.yaml"), env={})
    for name, text in MISPLACED_IN_WEB.items():
        (place / "web.yml").write_text(text.format(**values))
        (place / "c.yaml").write_text("web: {config_file: web.yml}\n")
        output[f"misplaced in web: {name}"] = run("check", "--config", str(place / "c.yaml"), env={})
    assert all(b"expected" in text or b":" in text for text in output.values())
    return output


# As a file name it has to be reported, or the mistake could not be found.
EXCUSED = {"auth_token in misplaced as a file", "api_key_secret in misplaced as the key"}


def test_no_secret_of_a_run_shows(tmp_path: Path, those: Secrets) -> None:
    with (
        simulating(tmp_path, scenario(those)) as simulator,
        daemon_of(tmp_path, settings(tmp_path, simulator, those)) as daemon,
    ):
        daemon.env["PYTHONFAULTHANDLER"] = "1"
        daemon.start(ready=False)
        until(lambda: daemon.events("daemon.started"), within=30, what="the daemon runs")
        until(lambda: daemon.events("api.attempted"), within=30, what="upstream is polled")
        output = drive_pages(daemon, those)
        output |= drive_commands(tmp_path, daemon, those)
        output |= misplace(tmp_path, those)
        # The token changes upstream: first refused, then read anew.
        simulator.put("credentials", {"account_id": ACCOUNT_ID, "auth_token": those.next_auth_token})
        until(lambda: daemon.events("account.unauthorized"), within=30, what="the old token is refused")
        (tmp_path / "auth_token").write_text(those.next_auth_token)
        until(lambda: daemon.events("account.recovered"), within=60, what="the new token is taken")
        # A bad web file and a bad configuration are reported.
        (tmp_path / "web.yml").write_text(f"basic_auth_users: {{alice: {those.password}}}\n")
        until(lambda: daemon.events("config.rejected"), within=30, what="the bad file is reported")
        daemon.configure({"accounts": [{"name": "main", "auth_token": those.auth_token}]})
        daemon.signal(signal.SIGHUP)
        until(lambda: len(daemon.events("config.rejected")) > 1, within=30, what="the bad configuration is reported")
        # Every thread's stack, as the watchdog or a crash would show it.
        daemon.signal(signal.SIGABRT)
        assert daemon.process is not None
        daemon.process.wait(20)
        output |= {"standard output": daemon.stdout.read_bytes(), "standard error": daemon.stderr.read_bytes()}
        output |= {path.name: path.read_bytes() for path in tmp_path.glob("watcher.db*")}
    assert b"Current thread" in output["standard error"]
    assert set(those.found_in(output)) <= EXCUSED


INSPECTION = """
import asyncio, faulthandler, gc, os, pathlib, pickle, sys, traceback
import httpx
from watcher.api.credentials import BasicCredentials
from watcher.config import Secret, WebFile, load
from watcher.daemon import Daemon
from watcher.server.http.protocol import Protocol

# Objects that hold a secret as plain text and do not print it. A connection holds that of its last request.
HOLDERS = (Secret, BasicCredentials, WebFile, Protocol)

def inside(one):
    slots = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
    return [getattr(one, name, None) for name in slots], getattr(one, "__dict__", None)

async def main(file, an_id):
    daemon = Daemon(lambda: load(pathlib.Path(file), os.environ))
    running = asyncio.create_task(daemon.run())
    await daemon.ready.wait()
    # Not before upstream was asked and the token was, by one that has it.
    port = daemon.addresses["admin"][0].rpartition(":")[2]
    key = {"Authorization": "Bearer " + pathlib.Path(file).with_name("admin_token").read_text().strip()}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=key, trust_env=False) as client:
        while (asked := await client.get(f"/api/v1/operations/{an_id}")).json()["status"] == "UNSEEN":
            await asyncio.sleep(0.05)
    del client, key, asked
    probe = load(pathlib.Path(file), os.environ).admin_token.read()
    for task in asyncio.all_tasks():
        task.print_stack(file=sys.stderr)
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
    for one in gc.get_objects():
        if str(type(one).__module__).partition(".")[0] == "watcher":
            print(repr(one), str(one), file=sys.stderr)
            if not isinstance(one, HOLDERS):
                print(inside(one), file=sys.stderr)
            try:
                pickle.dumps(one)
            except Exception as exc:
                traceback.print_exception(exc, file=sys.stderr)
    daemon.stop()
    await running

asyncio.run(main(*sys.argv[1:]))
"""


def test_no_object_in_memory_shows_a_secret_when_it_is_printed(tmp_path: Path, those: Secrets) -> None:
    with (
        simulating(tmp_path, scenario(those)) as simulator,
        daemon_of(tmp_path, settings(tmp_path, simulator, those)) as daemon,
    ):
        command = [sys.executable, "-c", INSPECTION, str(tmp_path / "watcher.yaml"), AN_ID]
        done = subprocess.run(
            command, env=environment(daemon.env), cwd=tmp_path, capture_output=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert b"Secret(hidden)" in done.stderr  # the hunt sees what there is to be seen
    assert those.found_in({"standard output": done.stdout, "standard error": done.stderr}) == []
