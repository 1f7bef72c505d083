"""The outcome of reading a configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from watcher.config.proxies import Proxy
    from watcher.config.secrets import FileSecret, SecretSource
    from watcher.config.webfile import WebFile
    from watcher.core.settings import Account, Configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfiguration:
    """A configuration that holds, the file it came from (None: the environment alone), and where its secrets are read.

    `secrets` has one source for each account, by name. Each was read once without an error while loading.
    `web` is what `web.config_file` says, None where there is none.
    `proxies` has the proxy of each account that is requested through one, by name.
    `warnings` are doubts that only the loader could see; `watcher.config.doubts` gives them with the rest.
    """

    configuration: Configuration
    file: Path | None
    secrets: Mapping[str, SecretSource]
    admin_token: FileSecret | None
    web: WebFile | None = None
    proxies: Mapping[str, Proxy] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def username(account: Account) -> str:
    """Return the user of HTTP Basic, whose password is the account's secret: the API key, else the account id."""
    return account.api_key or account.account_id or ""
