"""Reads the configuration from a YAML file and the environment: returns frozen settings, or every problem at once.

The types and defaults are in `watcher.core.settings`. `schema` derives the tree of settings from them; `document` and
`environment` read values along that tree. `rules` checks single values, `cross_checks` checks values against each
other. Secrets are kept as the place to read them from (`secrets`). `description` formats everything for
`watcher check`. `webfile` and `tls` read the file that `web.config_file` names.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from watcher.config.addresses import TcpAddress, UnixAddress, is_loopback, parse_listen
from watcher.config.build import Candidate, candidates, freeze
from watcher.config.credentials import GivenCredentials, read_twilio, unused
from watcher.config.cross_checks import check_across, check_files, check_proxies, check_secrets
from watcher.config.description import describe, warnings_of
from watcher.config.document import read_document
from watcher.config.draft import Draft
from watcher.config.environment import read_environment
from watcher.config.loaded import LoadedConfiguration, username
from watcher.config.problems import ConfigurationError, Problem, Problems
from watcher.config.rules import RESERVED_LABELS
from watcher.config.scalars import format_duration
from watcher.config.secrets import EnvironmentSecret, FileSecret, Secret, SecretError, SecretSource
from watcher.config.webfile import WebFile, read_web_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watcher.core.settings import Configuration

__all__ = [
    "RESERVED_LABELS",
    "ConfigurationError",
    "EnvironmentSecret",
    "FileSecret",
    "LoadedConfiguration",
    "Problem",
    "Secret",
    "SecretError",
    "SecretSource",
    "TcpAddress",
    "UnixAddress",
    "WebFile",
    "describe",
    "format_duration",
    "is_loopback",
    "load",
    "parse_listen",
    "read_web_file",
    "username",
    "warnings_of",
]


def load(path: Path | None, environ: Mapping[str, str]) -> LoadedConfiguration:
    """Return the configuration of the file, else of the file in `WATCHER_CONFIG`; the environment overrides it.

    Raises `ConfigurationError` with every problem. Reads every secret once, so that a missing one is reported at once.
    """
    draft = Draft()
    try:
        return _load(path, environ, draft)
    except ConfigurationError as exc:
        exc.readable = _readable(environ, draft)
        raise


def _load(path: Path | None, environ: Mapping[str, str], draft: Draft) -> LoadedConfiguration:
    problems = Problems()
    file = path or (Path(environ["WATCHER_CONFIG"]) if environ.get("WATCHER_CONFIG") else None)
    if file is not None:
        read_document(file, draft, problems)
    read_environment(environ, draft, problems)
    twilio = read_twilio(environ, problems)
    accounts = candidates(draft, twilio, problems)
    configuration = freeze(draft, accounts)
    check_across(configuration, accounts, draft, problems)
    check_secrets(accounts, twilio, draft, problems)
    proxies = check_proxies(configuration, environ, problems)
    web = check_files(configuration, accounts, draft, problems)
    problems.raise_if_any()
    token_file = configuration.admin.token_file
    return LoadedConfiguration(
        configuration=configuration,
        file=file,
        secrets={it.name: it.credentials.secret for it in accounts if it.name and it.credentials},
        admin_token=None if token_file is None else FileSecret(path=token_file),
        web=web,
        proxies=proxies,
        warnings=(*_warnings(accounts, twilio), *(web.warnings if web else ())),
    )


def _readable(environ: Mapping[str, str], draft: Draft) -> Configuration:
    """Return the readable part of a bad configuration, without its accounts. The environment wins here too."""
    with contextlib.suppress(ConfigurationError):
        read_environment(environ, draft, Problems())
    return freeze(draft, [])


def _warnings(accounts: list[Candidate], twilio: GivenCredentials) -> tuple[str, ...]:
    owner = next((account for account in accounts if account.uses_environment), None)
    reason = "every account has credentials of its own" if owner is None else "the other pair of credentials is used"
    names = unused(twilio, None if owner is None else owner.credentials)
    return tuple(f"{name} is not used: {reason}" for name in names)
