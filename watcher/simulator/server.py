"""The API behind a socket, alone or inside a running event loop, with the control endpoints on the same listener."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import uvicorn

from watcher.simulator.application import Application, Protocol
from watcher.simulator.control import CONTROL_PATH
from watcher.simulator.scenario import Clock, Scenario
from watcher.simulator.timestamps import SECOND
from watcher.simulator.upstream import BASE_PATH, Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A running simulated API. `base_url` is the URL to configure in a client."""

    base_url: str
    control_url: str
    upstream: Upstream
    clock: Callable[[], int]


@contextlib.asynccontextmanager
async def serving(scenario: Scenario, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Running]:
    """Serve the API while the context is open; port 0 picks a free port. Raises OSError if it cannot listen."""
    clock = virtual_clock(scenario.clock)
    upstream = Upstream(scenario, clock())
    listener = socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024
    )
    application = Application(upstream, clock)
    server = _Server(_config(application))
    running = asyncio.create_task(server.serve(sockets=[listener]), name="simulated API")
    try:
        await asyncio.wait(
            {running, stood := asyncio.ensure_future(server.stood.wait())}, return_when="FIRST_COMPLETED"
        )
        stood.cancel()
        if running.done():
            running.result()
        origin = _origin(host, listener.getsockname()[1])
        yield Running(base_url=origin + BASE_PATH, control_url=origin + CONTROL_PATH, upstream=upstream, clock=clock)
    finally:
        server.should_exit = True
        application.close()
        await running


async def serve(
    scenario: Scenario, host: str, port: int, *, ready: Callable[[Running], None], stop: asyncio.Event
) -> None:
    """Serve the API until `stop` is set; `ready` is called once it listens."""
    async with serving(scenario, host, port) as running:
        ready(running)
        await stop.wait()


def virtual_clock(clock: Clock) -> Callable[[], int]:
    """Return a monotonic clock: microseconds since 1970 by upstream's clock."""
    began_at = time.time_ns() // 1_000 + clock.offset
    began = time.monotonic()
    return lambda: began_at + int((time.monotonic() - began) * clock.speed * SECOND)


class _Server(uvicorn.Server):
    """Installs no signal handlers, and sets an event once it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stood = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.stood.set()


def _config(application: Application) -> uvicorn.Config:
    return uvicorn.Config(
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
        timeout_graceful_shutdown=2,
    )


def _origin(host: str, port: int) -> str:
    # A wildcard address cannot be connected to.
    reachable = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - nothing is bound here
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
