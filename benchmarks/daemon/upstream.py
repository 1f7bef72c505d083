"""The simulated API for two sides at once: one world, and requests counted for each side.

    python -m benchmarks.daemon.upstream SCENARIO_FILE FOLDER [CERTIFICATE KEY]

A side's base URL is `http(s)://127.0.0.1:PORT/SIDE/v1`, so that both sides read the same lists of the same accounts.
PORT is written to FOLDER/port once connections are accepted. `/_bench/requests` gives the requests of each side so far.
Between `/_bench/record` and `/_bench/keep`, bodies of good answers go to FOLDER/SIDE.bodies, each behind its length.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, BinaryIO

import uvicorn

from watcher.simulator import Upstream, read_scenario
from watcher.simulator.application import Application, Protocol
from watcher.simulator.server import virtual_clock

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

LENGTH = struct.Struct(">Q")
GOOD = 200


class SidesApplication:
    """Passes a side's requests on to the simulated API, counts them, and records answers while that is wanted."""

    def __init__(self, application: Application, folder: Path) -> None:
        self._application = application
        self._folder = folder
        self._requests: Counter[str] = Counter()
        self._files: dict[str, BinaryIO] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        side, _, path = scope["raw_path"].decode("ascii", "replace").lstrip("/").partition("/")
        if side == "_bench":
            await self._control(path, send)
            return
        if side == "_simulator":
            await self._application(scope, receive, send)
            return
        self._requests[side] += 1
        scope = scope | {"raw_path": f"/{path}".encode(), "path": f"/{path}"}
        await self._application(scope, receive, send if self._files is None else self._recording(side, send))

    async def _control(self, word: str, send: Send) -> None:
        match word:
            case "record":
                self._files = {}
            case "keep":
                for file in (self._files or {}).values():
                    file.close()
                self._files = None
        body = json.dumps(self._requests).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": GOOD, "headers": headers, "trailers": False})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def _recording(self, side: str, send: Send) -> Send:
        pieces: list[bytes] = []
        status = 0

        async def send_and_record(message: dict[str, Any]) -> None:
            nonlocal status
            await send(message)
            if message["type"] == "http.response.start":
                status = message["status"]
                return
            pieces.append(message["body"])
            if not message["more_body"] and status == GOOD:
                self._write(side, b"".join(pieces))

        return send_and_record

    def _write(self, side: str, body: bytes) -> None:
        if self._files is None:  # recording has ended while this answer was sent
            return
        if side not in self._files:
            self._files[side] = (self._folder / f"{side}.bodies").open("wb")
        self._files[side].write(LENGTH.pack(len(body)))
        self._files[side].write(body)


async def serve(scenario_file: Path, folder: Path, *tls: str) -> None:
    """Until the process is ended."""
    scenario = read_scenario(scenario_file)
    clock = virtual_clock(scenario.clock)
    application = SidesApplication(Application(Upstream(scenario, clock()), clock), folder)
    config = uvicorn.Config(
        application,
        http=Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=60,
        ssl_certfile=tls[0] if tls else None,
        ssl_keyfile=tls[1] if tls else None,
    )
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    (folder / "port.new").write_text(str(listener.getsockname()[1]))
    # Under its name only once it is whole.
    (folder / "port.new").rename(folder / "port")
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]))
