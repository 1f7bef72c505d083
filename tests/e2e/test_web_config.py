"""The daemon behind a web configuration file, as Prometheus, a probe and a stranger meet it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.certificates import Authority, hashed, write_web_file
from tests.support.processes import account, answers, daemon_of, environment, free_port, simulating, until

QUIET = "operations: []\n"
ALICE = ("alice", "made-up")


def settings(folder: Path, base_url: str) -> dict[str, Any]:
    return {"accounts": [account(base_url, folder)], "web": {"config_file": "web.yml"}}


def client(authority: Authority | None = None, **more: Any) -> httpx.Client:
    return httpx.Client(verify=authority.trusting() if authority else False, trust_env=False, timeout=20, **more)


def prometheus(folder: Path, target: int) -> tuple[subprocess.Popen[bytes], str]:
    """A real one that scrapes over TLS with a password."""
    program = shutil.which("prometheus")
    assert program is not None, "prometheus is missing; install Debian's package prometheus"
    (folder / "password").write_text(ALICE[1])
    job = {
        "job_name": "watcher",
        "scheme": "https",
        "tls_config": {"ca_file": str(folder / "ca.crt")},
        "basic_auth": {"username": ALICE[0], "password_file": str(folder / "password")},
        "static_configs": [{"targets": [f"127.0.0.1:{target}"]}],
    }
    config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [job]}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [program, f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data"]
    started = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL)
    return started, f"http://127.0.0.1:{port}"


def test_prometheus_scrapes_over_tls_with_a_password_and_no_client_without(tmp_path: Path) -> None:
    authority = Authority()
    authority.server(tmp_path)
    authority.save(tmp_path)
    write_web_file(tmp_path, tls={}, basic_auth_users={ALICE[0]: hashed(ALICE[1], cost=10)})
    with (
        simulating(tmp_path, QUIET) as simulator,
        daemon_of(tmp_path, settings(tmp_path, simulator.base_url)) as daemon,
        client(authority) as stranger,
        client(authority, auth=ALICE) as alice,
    ):
        daemon.start(ready=False)
        until(lambda: answers(f"{daemon.admin}/-/ready"), within=30, what="the daemon is ready")
        (started,) = daemon.events("daemon.started")
        assert started["web"] == [f"https://127.0.0.1:{daemon.web_port}"]
        web = started["web"][0]
        for path in ("/", "/metrics", "/api/v1/operations", "/openapi.json", "/nowhere"):
            assert stranger.get(web + path).status_code == 401
            assert alice.get(web + path).status_code in {200, 404}
        for path in ("/-/healthy", "/-/ready"):
            assert stranger.get(web + path).status_code == 200
        command = [sys.executable, "-m", "watcher", "healthcheck", "--config", str(tmp_path / "watcher.yaml")]
        assert subprocess.run(command, env=environment(daemon.env), check=False).returncode == 0
        scraper, url = prometheus(tmp_path, daemon.web_port)
        try:

            def is_up() -> bool:
                answer = httpx.get(f"{url}/api/v1/query", params={"query": "up"}, trust_env=False).json()
                return [row["value"][1] for row in answer["data"]["result"]] == ["1"]

            until(lambda: answers(f"{url}/-/ready"), within=30, what="Prometheus is ready")
            until(is_up, within=20, what="the scrape is good")
        finally:
            scraper.terminate()
            scraper.wait(20)
        assert daemon.terminate() == 0


def test_a_bad_file_is_published_and_measured_until_it_is_good_again(tmp_path: Path) -> None:
    Authority().server(tmp_path)
    users = {ALICE[0]: hashed(ALICE[1])}
    write_web_file(tmp_path, basic_auth_users=users)
    with (
        simulating(tmp_path, QUIET) as simulator,
        daemon_of(tmp_path, settings(tmp_path, simulator.base_url)) as daemon,
        client(auth=ALICE) as alice,
    ):
        daemon.start()

        def is_good() -> bool:
            shown = alice.get(f"{daemon.web}/metrics").text
            return "\noperation_watcher_config_last_reload_successful 1.0\n" in shown

        assert is_good()
        (tmp_path / "web.yml").write_text("basic_auth_users: {alice: made-up}\n")
        until(lambda: not is_good(), within=20, what="the bad file is measured")
        (rejected,) = daemon.events("config.rejected")
        (reason,) = rejected["reasons"]
        assert reason.startswith(f"{tmp_path}/web.yml:1: basic_auth_users.alice: expected a bcrypt hash")
        write_web_file(tmp_path, basic_auth_users=users | {"bob": hashed("other")})
        until(is_good, within=20, what="the good file is in force")
        assert len(daemon.events("config.rejected")) == 1
        assert len(daemon.events("web.reloaded")) == 1
        # A reload of the whole takes the file along: here without one.
        daemon.configure({"accounts": [account(simulator.base_url, tmp_path)]})
        assert httpx.post(f"{daemon.admin}/-/reload", trust_env=False).status_code == 200
        assert answers(f"{daemon.web}/metrics")
        assert daemon.terminate() == 0


def test_on_standby_with_a_bad_web_file_every_request_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: gone, key_file: gone}\n")
    with (
        simulating(tmp_path, QUIET) as simulator,
        daemon_of(tmp_path, settings(tmp_path, simulator.base_url)) as daemon,
    ):
        daemon.start("--stay")
        assert httpx.get(f"{daemon.web}/metrics", trust_env=False).status_code == 401
        assert httpx.get(f"{daemon.web}/-/healthy", trust_env=False).status_code == 200
        assert daemon.events("config.rejected")
        Authority().server(tmp_path)
        write_web_file(tmp_path, tls={})
        until(lambda: daemon.events("daemon.started"), within=30, what="the daemon starts")
        with client() as any_client:
            assert any_client.get(f"https://127.0.0.1:{daemon.web_port}/metrics").status_code == 200
        assert daemon.terminate() == 0
