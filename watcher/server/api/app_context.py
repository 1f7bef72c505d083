"""What the handlers answer from: values and callables of the daemon. A reload replaces what the callables return."""

import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from watcher.core.model import Moment
from watcher.core.snapshot import AccountSnapshot, NextPoll
from watcher.intake import Intake
from watcher.store import Store

Exposition: TypeAlias = tuple[bytes, Mapping[str, str], object]
"""Body of a scrape, its headers (content type and encoding), and the argument of `scraped` once it was delivered."""


class Side(enum.Enum):
    """Which listener answers. It decides which labels are shown and which endpoints exist."""

    WEB = "web"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppContext:
    """Everything that the listeners need.

    `accounts` returns the names of the configured accounts. `metrics` takes the request's Accept and Accept-Encoding.
    `scraped` is called after each scrape by Prometheus that was written completely to the socket. `reload` returns the
    reasons why the new configuration was refused; an empty list means that it is in force. `healthy` returns the names
    of overdue loops. `metric_labels` returns the labels of operations that web may show. `failed` is called with each
    unexpected exception of a handler.
    """

    accounts: Callable[[], Sequence[str]]
    snapshots: Callable[[], Sequence[AccountSnapshot]]
    store: Store
    intake: Intake
    metrics: Callable[[str, str], Awaitable[Exposition]]
    scraped: Callable[[object], None]
    reload: Callable[[], Awaitable[Sequence[str]]]
    healthy: Callable[[], Sequence[str]]
    next_poll: Callable[[str, str], NextPoll | None]
    metric_labels: Callable[[], Sequence[str]]
    now: Callable[[], Moment]
    failed: Callable[[Exception], None]
    version: str
