"""Checks settings against each other and the machine: named files exist, secrets can be read."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from watcher.config.addresses import TcpAddress, is_loopback, parse_listen
from watcher.config.credentials import API_KEY_SECRET, AUTH_TOKEN, CredentialSource, GivenCredentials
from watcher.config.problems import ENVIRONMENT, Origin, Problems
from watcher.config.proxies import Proxy, ProxyError, choose_proxy
from watcher.config.scalars import format_duration
from watcher.config.secrets import FileSecret, SecretError, content_of
from watcher.config.webfile import WebFile, note_web_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from watcher.config.build import Candidate
    from watcher.config.draft import Draft
    from watcher.core.settings import Configuration


def check_across(configuration: Configuration, accounts: list[Candidate], draft: Draft, problems: Problems) -> None:
    """Report settings that contradict each other."""
    _check_names(accounts, draft, problems)
    _check_identities(accounts, draft, problems)
    _check_urls(configuration, accounts, draft, problems)
    _check_holds(configuration, draft, problems)
    _check_listeners(configuration, draft, problems)


def check_secrets(accounts: list[Candidate], environment: GivenCredentials, draft: Draft, problems: Problems) -> None:
    """Report each secret that cannot be read."""
    for candidate in accounts:
        if candidate.credentials is None:
            continue
        try:
            candidate.credentials.secret.read()
        except SecretError as exc:
            problems.add(_origin_of_secret(candidate, candidate.credentials, environment, draft), str(exc))


def check_files(
    configuration: Configuration, accounts: list[Candidate], draft: Draft, problems: Problems
) -> WebFile | None:
    """Report each other named file that cannot be used. Return the content of the web configuration file."""
    for candidate, account in zip(accounts, configuration.accounts, strict=True):
        origin = draft.origin(f"{candidate.path}.ca_file", candidate.origin)
        _check_file(account.ca_file, origin, _load_certificates, problems)
    nowhere = Origin(file=ENVIRONMENT)
    web, admin = configuration.web, configuration.admin
    before = len(problems)
    _check_file(web.config_file, draft.origin("web.config_file", nowhere), _open, problems)
    can_be_opened = web.config_file is not None and len(problems) == before
    _check_file(admin.token_file, draft.origin("admin.token_file", nowhere), _read_secret, problems)
    return note_web_file(web.config_file, problems) if can_be_opened and web.config_file is not None else None


def check_proxies(configuration: Configuration, environ: Mapping[str, str], problems: Problems) -> dict[str, Proxy]:
    """Return the proxy of each account that has one, by account name; report each bad variable once."""
    found: dict[str, Proxy] = {}
    bad: dict[str, str] = {}
    for account in configuration.accounts:
        try:
            if (proxy := choose_proxy(account.base_url, environ)) is not None:
                found[account.name] = proxy
        except ProxyError as exc:
            bad[exc.variable] = exc.message
    for variable, message in bad.items():
        problems.add(Origin(file=ENVIRONMENT, path=variable), message)
    return found


def _check_names(accounts: Iterable[Candidate], draft: Draft, problems: Problems) -> None:
    first: dict[str, str] = {}
    for candidate in accounts:
        if candidate.name in first:
            origin = draft.origin(f"{candidate.path}.name", candidate.origin)
            problems.add(origin, f'the name "{candidate.name}" is taken by {first[candidate.name]}')
        elif candidate.name is not None:
            first[candidate.name] = candidate.path


def _check_identities(accounts: Iterable[Candidate], draft: Draft, problems: Problems) -> None:
    # Both would poll, count and publish the same operations.
    for part in ("account_id", "api_key"):
        first: dict[str, str] = {}
        for candidate in accounts:
            value = getattr(candidate.credentials, part, None)
            if value is None:
                continue
            other = first.setdefault(value.lower(), candidate.path)
            if other != candidate.path:
                origin = draft.origin(f"{candidate.path}.{part}", candidate.origin)
                problems.add(origin, f"the same {part} as {other}; two accounts with the same credentials are refused")


def _check_urls(configuration: Configuration, accounts: Iterable[Candidate], draft: Draft, problems: Problems) -> None:
    for candidate, account in zip(accounts, configuration.accounts, strict=True):
        url = urlsplit(account.base_url)
        if url.scheme == "https" or account.allow_http or is_loopback(url.hostname or ""):
            continue
        origin = draft.origin(f"{candidate.path}.base_url", candidate.origin)
        problems.add(origin, "http sends credentials in the clear; use https, or allow it with allow_http: true")


def _check_holds(configuration: Configuration, draft: Draft, problems: Problems) -> None:
    hold, most = configuration.metrics.hold, configuration.metrics.hold_at_most
    if hold <= most:
        return
    if "metrics.hold" in draft.entries:
        message = f"must not be longer than hold_at_most ({format_duration(most)}), got {format_duration(hold)}"
        problems.add(draft.entries["metrics.hold"].origin, message)
    else:
        message = f"must not be shorter than hold ({format_duration(hold)}), got {format_duration(most)}"
        problems.add(draft.entries["metrics.hold_at_most"].origin, message)


def _check_listeners(configuration: Configuration, draft: Draft, problems: Problems) -> None:
    web, admin = parse_listen(configuration.web.listen), parse_listen(configuration.admin.listen)
    if not isinstance(web, TcpAddress) or not isinstance(admin, TcpAddress):
        return
    fallback = draft.origin("web.listen", Origin(file=ENVIRONMENT))
    origin = draft.origin("admin.listen", fallback)
    if not admin.is_loopback and not draft.has("admin.token_file"):
        problems.add(
            origin, "an address that is not loopback needs admin.token_file, since admin can change what is tracked"
        )
    if admin.overlaps(web):
        problems.add(origin, f"port {admin.port} is also the port of web.listen; each listener needs its own port")


def _origin_of_secret(
    candidate: Candidate, credentials: CredentialSource, environment: GivenCredentials, draft: Draft
) -> Origin:
    source, is_key = credentials.secret, credentials.api_key is not None
    if source is environment.auth_token or source is environment.api_key_secret:
        return Origin(file=ENVIRONMENT, path=f"{API_KEY_SECRET if is_key else AUTH_TOKEN}_FILE")
    part = "api_key_secret_file" if is_key else "auth_token_file"
    return draft.origin(f"{candidate.path}.{part}", candidate.origin)


def _check_file(file: str | None, origin: Origin, use: Callable[[str], object], problems: Problems) -> None:
    if file is None:
        return
    try:
        use(file)
    except ssl.SSLError:
        problems.add(origin, f"{file} holds no certificates in PEM form")
    except SecretError as exc:
        problems.add(origin, str(exc))
    except OSError as exc:
        problems.add(origin, f"cannot read {file}: {(exc.strerror or 'unknown error').lower()}")


def _read_secret(file: str) -> None:
    FileSecret(path=file).read()


def _load_certificates(file: str) -> None:
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)


def _open(file: str) -> None:
    content_of(file, 0)
