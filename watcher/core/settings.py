"""The settings as frozen types, valid once they exist.

`watcher.config` reads files and the environment. Here are only names, types and defaults, and defaults are defined only
here. Waits are `timedelta`. The core turns them into microseconds where it computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec

PUBLIC_BASE_URL = "https://comms.twilio.com/v1"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all sections: frozen, keyword-only."""


class Account(Settings, frozen=True, kw_only=True):
    """One upstream account: its operations to track, its credentials, and our share of its limits.

    Exactly one pair of credentials is set: `account_id` with an auth token, or `api_key` with its secret. A secret from
    the environment is not in these fields: `watcher.config` returns it beside them.
    """

    name: str
    account_id: str | None = None
    auth_token_file: str | None = None
    api_key: str | None = None
    api_key_secret_file: str | None = None
    base_url: str = PUBLIC_BASE_URL
    allow_http: bool = False
    ca_file: str | None = None
    operations: tuple[str, ...] = ()
    discover: bool = False
    discover_since: timedelta = timedelta(hours=24)
    max_requests_per_second: float = 5.0
    max_concurrency: int = 4


class Polling(Settings, frozen=True, kw_only=True):
    """How often operations are polled, and how their stats settle."""

    freshness: timedelta = timedelta(seconds=5)
    request_timeout: timedelta = timedelta(seconds=10)
    settle_after: tuple[timedelta, ...] = (timedelta(seconds=30), timedelta(minutes=2))
    not_found_grace: timedelta = timedelta(minutes=2)


class Storage(Settings, frozen=True, kw_only=True):
    """Where state is stored, and how long the details of finished operations stay readable."""

    url: str = "sqlite:///watcher.db"
    keep: timedelta = timedelta(hours=24)


class Metrics(Settings, frozen=True, kw_only=True):
    """How long series of single operations are shown, for how many operations, and with which user labels."""

    hold: timedelta = timedelta(minutes=10)
    hold_at_most: timedelta = timedelta(hours=24)
    max_operations: int = 1000
    labels: tuple[str, ...] = ()
    counter_labels: tuple[str, ...] = ()


class Web(Settings, frozen=True, kw_only=True):
    """The listener that Prometheus scrapes. It is read-only."""

    listen: str = ":10617"
    config_file: str | None = None


class Admin(Settings, frozen=True, kw_only=True):
    """The listener where the app registers operations."""

    listen: str = "localhost:10618"
    token_file: str | None = None
    allowed_hosts: tuple[str, ...] = ()


class LogSettings(Settings, frozen=True, kw_only=True):
    """The level and format of the log on standard output."""

    level: str = "info"
    format: str = "json"


class Configuration(Settings, frozen=True, kw_only=True):
    """The whole configuration."""

    accounts: tuple[Account, ...] = ()
    polling: Polling = Polling()
    storage: Storage = Storage()
    metrics: Metrics = Metrics()
    web: Web = Web()
    admin: Admin = Admin()
    log: LogSettings = LogSettings()

    @property
    def account_names(self) -> Sequence[str]:
        """The names of the accounts, in their order."""
        return [account.name for account in self.accounts]
