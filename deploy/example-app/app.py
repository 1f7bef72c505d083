"""An app that sends push notifications and has its operations followed; standard library only.

How an app should use the watcher beside it:
* Send first, register then. What has been sent is sent, whatever becomes of the watcher.
* An id goes into a queue, and a thread hands it in until the answer is 200 or 201. Registering again does no harm.
* The app's own readiness knows nothing of the watcher.

GET /ready        200, always
POST /send        {"campaign": "spring-sale", "recipients": 500, …}: sends, answers 202 with the operation id
GET /unregistered how many ids the watcher has not taken yet

From the environment: LISTEN (127.0.0.1:8080), API (http://localhost:10619/v1), TWILIO_ACCOUNT_SID, AUTH_TOKEN_FILE,
WATCHER (unix:/run/watcher/admin.sock or http://localhost:10618), SEND_EVERY (seconds; 0: only when asked).
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import queue
import random
import signal
import socket
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

API = os.environ.get("API", "http://localhost:10619/v1")
ACCOUNT = os.environ.get("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000000")
AUTH_TOKEN_FILE = Path(os.environ.get("AUTH_TOKEN_FILE", "/run/secrets/twilio/auth_token"))
WATCHER = os.environ.get("WATCHER", "unix:/run/watcher/admin.sock")
SEND_EVERY = float(os.environ.get("SEND_EVERY", "0"))
TRY_AGAIN_SECONDS = 1.0
CAMPAIGNS = ("spring-sale", "breaking-news", "cart-reminder", "weekly-digest")

unregistered: queue.Queue[dict[str, Any]] = queue.Queue()


class OverSocket(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the path instead of the host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def send(wanted: dict[str, Any]) -> str:
    """Send, and put the operation id into the queue; the id."""
    token = AUTH_TOKEN_FILE.read_text().strip()
    credentials = base64.b64encode(f"{ACCOUNT}:{token}".encode()).decode()
    request = urllib.request.Request(  # noqa: S310 -- an address from the operator
        f"{API}/PushNotifications",
        data=json.dumps(wanted).encode(),
        headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        operation_id = str(json.load(answer)["operationId"])
    unregistered.put({"id": operation_id, "labels": {"campaign": str(wanted.get("campaign", "none"))}})
    return operation_id


def register_all() -> None:
    """Hand in what is in the queue, one after the other, each until it is taken."""
    while True:
        entry = unregistered.get()
        while not register(entry):
            time.sleep(TRY_AGAIN_SECONDS)
        unregistered.task_done()


def register(entry: dict[str, Any]) -> bool:
    """Whether this is settled: taken, or refused in a way that trying again does not mend."""
    if WATCHER.startswith("unix:"):
        connection: http.client.HTTPConnection = OverSocket(WATCHER.removeprefix("unix:"), timeout=10)
    else:
        connection = http.client.HTTPConnection(WATCHER.removeprefix("http://"), timeout=10)
    try:
        connection.request(
            "POST", "/api/v1/operations", body=json.dumps(entry), headers={"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):  # the watcher starts, or is down: it is back soon
        return False
    finally:
        connection.close()
    if http.HTTPStatus.BAD_REQUEST <= answer.status < http.HTTPStatus.INTERNAL_SERVER_ERROR:
        print(f"the watcher refuses {entry['id']}: {answer.status} {body[:500]!r}", flush=True)  # noqa: T201
        return True
    return answer.status in {http.HTTPStatus.OK, http.HTTPStatus.CREATED}


def send_now_and_then() -> None:
    """What a lively app does."""
    while True:
        recipients = random.randint(20, 2000)  # noqa: S311
        wanted: dict[str, Any] = {"campaign": random.choice(CAMPAIGNS), "recipients": recipients}  # noqa: S311
        if random.random() < 0.2:  # noqa: S311, PLR2004
            wanted["failed"] = random.randint(1, recipients // 4)  # noqa: S311
        try:
            send(wanted)
        except (OSError, ValueError) as error:
            print(f"not sent: {error}", flush=True)  # noqa: T201
        time.sleep(random.expovariate(1 / SEND_EVERY))


class Handler(BaseHTTPRequestHandler):
    """The app's own little API."""

    def do_GET(self) -> None:
        """Ready, and what is not registered yet."""
        if self.path == "/ready":
            self._answer(200, {"ready": True})
        elif self.path == "/unregistered":
            self._answer(200, {"unregistered": unregistered.unfinished_tasks})
        else:
            self._answer(404, {})

    def do_POST(self) -> None:
        """Send."""
        if self.path != "/send":
            self._answer(404, {})
            return
        try:
            wanted = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))) or b"{}")
            self._answer(202, {"operationId": send(wanted)})
        except (OSError, ValueError) as error:
            self._answer(502, {"error": str(error)})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- so it is called
        """Silence: a probe every few seconds is no news."""

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def main() -> None:
    """Serve until SIGTERM."""
    host, _, port = os.environ.get("LISTEN", "127.0.0.1:8080").rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    threading.Thread(target=register_all, daemon=True).start()
    if SEND_EVERY:
        threading.Thread(target=send_now_and_then, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
