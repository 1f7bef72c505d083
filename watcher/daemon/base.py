"""What outlives every configuration of a daemon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx

from watcher.clock import Clock
from watcher.config import Loaded
from watcher.logs import LineWriter, Log
from watcher.metrics import Instruments
from watcher.server import Addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """Clock, log and counters, and the addresses that were taken. `load` reads the configuration anew."""

    load: Callable[[], Loaded]
    clock: Clock
    writer: LineWriter
    log: Log
    instruments: Instruments
    addresses: Addresses
    transport: httpx.AsyncBaseTransport | None = None
