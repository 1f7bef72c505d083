"""Describes a configuration in plain words and warns about doubtful settings: the text of `watcher check`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from watcher.config.addresses import TcpAddress, parse_listen
from watcher.config.loaded import LoadedConfiguration, username
from watcher.config.rules import SQLITE
from watcher.config.scalars import format_duration as written
from watcher.config.secrets import FileSecret, SecretSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from watcher.core.settings import Account, Configuration

_CAREFUL_PER_SECOND = 5
_CAREFUL_CONCURRENCY = 4
_CAREFUL_FRESHNESS = timedelta(seconds=1)
_TARGET_LABELS = frozenset({"job", "instance"})


def describe(loaded: LoadedConfiguration) -> list[str]:
    """Return the description of the configuration, in lines."""
    configuration = loaded.configuration
    return [
        f"configuration: {loaded.file or 'no file, the environment alone'}",
        *(line for account in configuration.accounts for line in _account(account, loaded)),
        *_polling(configuration),
        *_storage(configuration),
        *_metrics(configuration),
        *_listeners(loaded),
        f"log: {configuration.log.format}, from {configuration.log.level} up; events of operations always",
    ]


def warnings_of(loaded: LoadedConfiguration) -> list[str]:
    """Return a line for each setting that is allowed but may not be intended."""
    configuration = loaded.configuration
    return [
        *loaded.warnings,
        *(line for account in configuration.accounts for line in _account_warnings(account, loaded)),
        *_section_warnings(configuration),
        *_label_warnings(configuration),
        *_file_warnings(loaded),
    ]


def _account(account: Account, loaded: LoadedConfiguration) -> Iterator[str]:
    freshness = loaded.configuration.polling.freshness
    share, singles = account.max_requests_per_second, int(account.max_requests_per_second * freshness.total_seconds())
    yield f"account {account.name}: polls {account.base_url} as {username(account)}"
    yield f"  {_credential(account)} from {loaded.secrets[account.name]}"
    yield (
        f"  share: {share:g} requests/s, at most {account.max_concurrency} at a time; keeps {written(freshness)} "
        f"freshness up to about {singles:,} operations by single GETs, beyond that by sweeping lists"
    )
    yield f"  tracks {len(account.operations):,} operations from the start and those that are registered"
    if account.discover:
        since = written(account.discover_since)
        yield (
            "  discovers every operation of the account; "
            f"on an empty store, those of the last {since} that have not ended"
        )
    if (proxy := loaded.proxies.get(account.name)) is not None:
        yield f"  uses the proxy {proxy}, set by {proxy.variable}"
    if account.ca_file:
        yield f"  trusts the certificates in {account.ca_file}"


def _credential(account: Account) -> str:
    return "secret of the API key" if account.api_key else "auth token"


def _polling(configuration: Configuration) -> Iterator[str]:
    polling = configuration.polling
    yield f"polling: a change is known at most {written(polling.freshness)} late, while limits allow"
    yield f"  a request may take {written(polling.request_timeout)}"
    waits = " and ".join(written(wait) for wait in polling.settle_after)
    if waits:
        yield f"  an ended operation is polled again after {waits}"
    else:
        yield "  the end of an operation is confirmed by one more read"
    yield f"  an operation may be unknown upstream for {written(polling.not_found_grace)}"


def _storage(configuration: Configuration) -> Iterator[str]:
    storage = configuration.storage
    yield f"storage: SQLite in {storage.url.removeprefix(SQLITE)}"
    yield f"  finished operations and published events stay readable for {written(storage.keep)}"


def _metrics(configuration: Configuration) -> Iterator[str]:
    metrics = configuration.metrics
    yield (
        f"metrics: a finished operation is shown for {written(metrics.hold)} after the scrape that carried its end, "
        f"at most {written(metrics.hold_at_most)}; at most {metrics.max_operations:,} operations are shown"
    )
    labels, counter_labels = ", ".join(metrics.labels), ", ".join(metrics.counter_labels)
    yield f"  user labels: {labels or 'none'}; on counters: {counter_labels or 'none'}"


def _listeners(loaded: LoadedConfiguration) -> Iterator[str]:
    web, admin = loaded.configuration.web, loaded.configuration.admin
    found = loaded.web
    tls = "no TLS" if found is None or found.tls is None else "TLS"
    users = "no password" if found is None or not found.users else f"passwords for {len(found.users)} users"
    protection = f"{tls}, {users}" + (f", as in {web.config_file}" if web.config_file else "")
    yield f"web: {_address(web.listen)}, read only; {protection}"
    yield f"admin: {_address(admin.listen)}; {'with' if admin.token_file else 'without'} a token"


def _address(text: str) -> str:
    address = parse_listen(text)
    if isinstance(address, TcpAddress):
        return text if address.host else f"port {address.port} of all addresses"
    return f"the Unix socket {address.path}"


def _account_warnings(account: Account, loaded: LoadedConfiguration) -> Iterator[str]:
    name = f"account {account.name}"
    if account.discover:
        yield f"{name}: discover tracks the whole account; of several replicas, each would count and publish everything"
    if account.max_requests_per_second > _CAREFUL_PER_SECOND:
        yield (
            f"{name}: {account.max_requests_per_second:g} requests/s is above the recommended {_CAREFUL_PER_SECOND}; "
            "the programs that send share the account's limits, and every process has a share of its own"
        )
    if account.max_concurrency > _CAREFUL_CONCURRENCY:
        yield (
            f"{name}: {account.max_concurrency} requests at a time is above the recommended {_CAREFUL_CONCURRENCY}; "
            "upstream limits the concurrent requests of the whole account"
        )
    if account.allow_http:
        yield f"{name}: allow_http lets credentials travel in the clear"
    yield from _secret_warnings(name, loaded.secrets[account.name])


def _section_warnings(configuration: Configuration) -> Iterator[str]:
    polling = configuration.polling
    if polling.freshness < _CAREFUL_FRESHNESS:
        yield f"polling.freshness: {written(polling.freshness)} costs many requests for little gain"
    if polling.request_timeout > max(polling.freshness * 10, timedelta(seconds=30)):
        yield f"polling.request_timeout: one slow answer may delay others by {written(polling.request_timeout)}"
    if not polling.settle_after:
        yield "polling.settle_after: is empty, so stats that still change after the end are missed"
    if not configuration.storage.url.startswith(f"{SQLITE}/"):
        yield "storage.url: is a relative path, so the state is stored where the daemon happens to be started"
    keep, shown = configuration.storage.keep, configuration.metrics.hold_at_most
    if keep < shown:
        yield (
            f"storage.keep: {written(keep)} is shorter than metrics.hold_at_most ({written(shown)}), so details of "
            "finished operations stay stored for as long as their series are shown"
        )
    if configuration.metrics.hold < timedelta(minutes=1):
        yield f"metrics.hold: {written(configuration.metrics.hold)} is short; alerts may miss how an operation ended"
    if not configuration.metrics.max_operations:
        yield "metrics.max_operations: is 0, so no operation has series of its own"


def _label_warnings(configuration: Configuration) -> Iterator[str]:
    metrics = configuration.metrics
    for label in metrics.counter_labels:
        if label not in metrics.labels:
            yield f"metrics.counter_labels: {label} is not in metrics.labels: only counters carry it"
    for label in dict.fromkeys(metrics.labels + metrics.counter_labels):
        if label in _TARGET_LABELS:
            yield f"metrics.labels: Prometheus sets {label} itself and renames ours to exported_{label}"


def _file_warnings(loaded: LoadedConfiguration) -> Iterator[str]:
    if loaded.admin_token is not None:
        yield from _secret_warnings("admin.token_file", loaded.admin_token)


def _secret_warnings(name: str, source: SecretSource) -> Iterator[str]:
    if isinstance(source, FileSecret) and source.is_world_readable():
        yield f"{name}: every user of this machine can read the secret in {source.path}"
