"""The result of reading a configuration."""

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
    """A valid configuration, its file (None: only the environment), and where its secrets are read from.

    `secrets` has one source for each account, by account name. Each was read once without an error while loading.
    `web` is the content of `web.config_file`, None if that is not set.
    `proxies` has the proxy of each account that uses one, by account name.
    `warnings` are those that only the loader can give; `watcher.config.warnings_of` returns them with the others.
    """

    configuration: Configuration
    file: Path | None
    secrets: Mapping[str, SecretSource]
    admin_token: FileSecret | None
    web: WebFile | None = None
    proxies: Mapping[str, Proxy] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def username(account: Account) -> str:
    """Return the user name for HTTP Basic: the API key, else the account id. The password is the account's secret."""
    return account.api_key or account.account_id or ""
