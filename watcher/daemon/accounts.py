"""An account's loop with its client, built from the settings."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from watcher.api import BasicCredentials, Client, Connections, Gate
from watcher.config import SecretSource, username
from watcher.config.proxies import ProxyError, choose_proxy
from watcher.core.account_health import AccountHealth
from watcher.core.attempt import Attempt
from watcher.core.census import Retention
from watcher.core.discovery import Scope
from watcher.core.errors import OperatorError
from watcher.core.governor import Governor, Share
from watcher.core.lifecycle import LifecycleRules
from watcher.core.model import Moment, micros
from watcher.core.planner import Promise
from watcher.core.settings import Account, Configuration
from watcher.store import Store
from watcher.threads import NoThreadError, Threads
from watcher.watch import AccountObserver, AccountWatch, WatchSettings

SECRET_SECONDS = 5.0
"""How long a refused request waits for its secret to be read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamAccess:
    """The parts of a client whose creation can fail. A reload creates those of all accounts before it swaps any."""

    account: Account
    credentials: BasicCredentials
    http: httpx.AsyncClient
    secrets: Threads

    async def reread_secret(self) -> None:
        """Read the secret again, in a thread, as its file may be on a mount that hangs. Then the old one stays."""
        with contextlib.suppress(TimeoutError, NoThreadError):
            async with asyncio.timeout(SECRET_SECONDS):
                await self.secrets.share(self.credentials, self.credentials.refresh)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRuntime:
    """A loop and what must be closed after it."""

    settings: Account
    watch: AccountWatch
    credentials: BasicCredentials
    http: httpx.AsyncClient


def identities(accounts: Iterable[Account]) -> dict[str, str]:
    """The account id for each account name, where the configuration has one; the store keeps it.

    An API key is no identity: it does not say which account it belongs to, and keys are replaced.
    """
    return {account.name: account.account_id for account in accounts if account.account_id is not None}


def following(configuration: Configuration, account: Account) -> WatchSettings:
    """The settings that the account's loop uses."""
    polling, metrics = configuration.polling, configuration.metrics
    settle_after = tuple(micros(wait) for wait in polling.settle_after)
    return WatchSettings(
        rules=LifecycleRules(settle_after=settle_after, not_found_grace=micros(polling.not_found_grace)),
        promise=Promise(freshness=micros(polling.freshness), settle_after=settle_after),
        retention=Retention(
            hold=micros(metrics.hold),
            hold_at_most=micros(metrics.hold_at_most),
            max_operations=metrics.max_operations,
        ),
        counter_labels=tuple(sorted(metrics.counter_labels)),
        discovers=Scope(every=micros(polling.freshness), since=micros(account.discover_since))
        if account.discover
        else None,
        api_key=account.api_key if account.account_id is None else None,
    )


def open_upstream(
    account: Account, secret: SecretSource, secrets: Threads, transport: httpx.AsyncBaseTransport | None = None
) -> UpstreamAccess:
    """Credentials and connections of an account. Its secret is read again in the threads `secrets`.

    Reads files, so it may block. Raises OperatorError where a secret or certificate cannot be read.
    """
    credentials = BasicCredentials(username(account), lambda: secret.read().reveal())
    transport = transport or _connections(account)
    http = httpx.AsyncClient(
        transport=transport,
        timeout=None,  # noqa: S113 -- the client limits the time of each whole attempt
        trust_env=False,
        follow_redirects=False,
        # Cookies from upstream are neither sent with the next request nor kept in memory.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )
    return UpstreamAccess(account=account, credentials=credentials, http=http, secrets=secrets)


def _connections(account: Account) -> Connections:
    """Connections through the proxy that the environment names. Raises OperatorError."""
    # More connections than may be busy would only make upstream reconnect; see docs/decisions.
    limits = httpx.Limits(max_connections=account.max_concurrency, max_keepalive_connections=account.max_concurrency)
    trust = _trust(account)
    try:
        found = choose_proxy(account.base_url, os.environ)
        proxy = None if found is None else httpx.Proxy(found.url)
    except ProxyError as exc:
        message = f"{exc.variable}: {exc}"
        raise OperatorError(message) from exc
    return Connections(
        lambda: httpx.AsyncHTTPTransport(verify=trust, trust_env=False, limits=limits, proxy=proxy),
    )


def build_watch(
    upstream: UpstreamAccess,
    *,
    configuration: Configuration,
    store: Store,
    now: Callable[[], Moment],
    listener: AccountObserver,
    health: AccountHealth | None = None,
) -> AccountRuntime:
    """The account's loop, not yet running. `health` is the health that the loop before it reported last."""
    account = upstream.account
    share = Share(per_second=account.max_requests_per_second, concurrency=account.max_concurrency)
    gate = Gate(Governor(share, now().tick), now)

    def connect(on_attempt: Callable[[Attempt], None]) -> Client:
        return Client(
            http=upstream.http,
            base_url=account.base_url,
            credentials=upstream.credentials,
            reread=upstream.reread_secret,
            gate=gate,
            request_timeout=micros(configuration.polling.request_timeout),
            now=now,
            on_attempt=on_attempt,
        )

    watch = AccountWatch(
        account.name,
        following=following(configuration, account),
        store=store,
        connect=connect,
        gate=gate,
        now=now,
        listener=listener,
        health=health,
    )
    return AccountRuntime(settings=account, watch=watch, credentials=upstream.credentials, http=upstream.http)


def _trust(account: Account) -> ssl.SSLContext | bool:
    """The system's trust store, or the operator's file; no pinning (Twilio rotates its certificates)."""
    if account.base_url.startswith("http://"):
        return False
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if account.ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cafile=account.ca_file)
    except (OSError, ssl.SSLError) as exc:
        message = f"accounts: {account.name}: ca_file {account.ca_file}: not a readable file of certificates"
        raise OperatorError(message) from exc
    if key_log := os.environ.get("SSLKEYLOGFILE"):
        _log_keys(context, key_log)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _log_keys(context: ssl.SSLContext, file: str) -> None:
    """Log TLS keys as `ssl.create_default_context` does, whose error names the wrong file. Raises OperatorError."""
    try:
        context.keylog_filename = file
    except OSError as exc:
        fact = (exc.strerror or str(exc)).lower()
        message = f"SSLKEYLOGFILE: cannot write {file}: {fact}; unset it, or name a file that can be written"
        raise OperatorError(message) from exc
