"""Finds a running daemon, at `--url` or else at `admin.listen`, and sends it requests with the token of `admin`.

Only `admin` of the configuration is used, so that a client needs neither the daemon's credentials nor its other files.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import msgspec

from watcher.cli.exits import Exit, FailedError
from watcher.config import ConfigurationError, FileSecret, TcpAddress, UnixAddress, parse_listen
from watcher.config.document import read_document
from watcher.config.draft import Draft
from watcher.config.environment import read_environment
from watcher.config.problems import BadValueError, Problems
from watcher.core.printable import shortened
from watcher.core.settings import Admin
from watcher.deadline import within
from watcher.intake import EntryError

TIMEOUT_SECONDS = 30.0
"""Time limit of one request; a list of 10,000 takes the daemon a moment."""

_MOST_SHOWN = 20
_REACHABLE: Mapping[str | None, str] = {None: "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - requested, not bound
_HINTS: Mapping[int, str] = {
    401: "set admin.token_file in --config, or WATCHER_ADMIN__TOKEN_FILE, to a file with the daemon's token",
    403: "the daemon refuses this client; send the request to its admin listener directly",
    404: "use the admin listener of a watcher; --url says where it is",
    405: "this changes state, so use the admin listener, not web",
    421: "add the host to admin.allowed_hosts, or use localhost",
}


class Problem(msgspec.Struct, frozen=True):
    """The daemon's error answer: the members of `application/problem+json` that are shown here."""

    title: str = ""
    detail: str = ""
    errors: tuple[EntryError, ...] = ()


class RefusedError(FailedError):
    """The daemon answered with an error."""

    def __init__(self, code: Exit, message: str, *, status: int) -> None:
        super().__init__(code, message)
        self.status = status


class AdminClient:
    """Sends requests to a running daemon; a context manager."""

    def __init__(self, http: httpx.Client, place: str) -> None:
        self._http = http
        self._place = place

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def ask(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: bytes | None = None
    ) -> bytes:
        """Return the body of a successful answer. Raises RefusedError for another one, FailedError without one."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        given = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            request = partial(self._http.request, method, path, params=given, content=body, headers=headers)
            answer = within(TIMEOUT_SECONDS, request)
            assert isinstance(answer, httpx.Response)  # noqa: S101 -- what a request returns
        except (httpx.HTTPError, TimeoutError) as exc:
            reason = shortened(str(exc) or type(exc).__name__).lower()
            hint = "is the daemon running there? --config or --url says where it is"
            raise FailedError(Exit.UNREACHABLE, f"cannot reach the daemon at {self._place}: {reason}; {hint}") from exc
        if answer.is_success:
            return answer.content
        raise _refusal(answer, self._place)


@contextmanager
def daemon(arguments: Namespace) -> Iterator[AdminClient]:
    """Yield a client of the daemon that options and configuration name. Raises ConfigurationError, FailedError."""
    admin = _admin(None if arguments.config is None else Path(arguments.config))
    headers = {"Accept": "application/json"}
    if admin.token_file is not None:
        headers["Authorization"] = f"Bearer {FileSecret(path=admin.token_file).read().reveal()}"
    place, socket_path = _url(arguments.url) if arguments.url else _listener(admin.listen)
    # Certificates are only needed, and then only read, where the URL says so.
    try:
        transport = httpx.HTTPTransport(uds=socket_path, verify=place.startswith("https:"))
    except OSError as exc:  # certificates, or a file that SSLKEYLOGFILE names
        fact = (exc.strerror or str(exc)).lower()
        named = f" ({exc.filename}, named by SSLKEYLOGFILE or SSL_CERT_FILE)" if exc.filename else ""
        raise FailedError(Exit.USAGE, f"TLS cannot be set up: {fact}{named}") from exc
    base_url = "http://localhost" if socket_path else place
    with (
        # The admin listener is never behind a proxy.
        httpx.Client(
            transport=transport, base_url=base_url, headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False
        ) as http,
        AdminClient(http, place) as found,
    ):
        yield found


def _admin(file: Path | None) -> Admin:
    environ = os.environ
    file = file or (Path(environ["WATCHER_CONFIG"]) if environ.get("WATCHER_CONFIG") else None)
    problems, draft = Problems(), Draft()
    try:
        if file is not None:
            read_document(file, draft, problems)
        read_environment(environ, draft, problems)
        problems.raise_if_any()
    except ConfigurationError as exc:
        ours = [problem for problem in exc.problems if _is_ours(problem.path)]
        if ours:
            raise ConfigurationError(ours) from exc
    return Admin(
        listen=draft.get("admin.listen", Admin().listen), token_file=draft.get("admin.token_file", Admin().token_file)
    )


def _is_ours(path: str) -> bool:
    """Whether a problem prevents reading `admin`: it is in that section, or the whole file cannot be read."""
    return not path or path.partition(".")[0] == "admin" or path.startswith("WATCHER_ADMIN__")


def _listener(listen: str) -> tuple[str, str | None]:
    address = parse_listen(listen)
    if isinstance(address, UnixAddress):
        return listen, address.path
    if address.port == 0:
        raise FailedError(
            Exit.USAGE, "admin.listen lets the system choose the port; use --url to say where the daemon is"
        )
    host = _REACHABLE.get(address.host, address.host or "")
    return f"http://[{host}]:{address.port}" if ":" in host else f"http://{host}:{address.port}", None


def _url(text: str) -> tuple[str, str | None]:
    expected = "expected http://host:port, https://host:port or unix:/path"
    try:
        if text.startswith("unix:"):
            address = parse_listen(text)
            assert not isinstance(address, TcpAddress)  # noqa: S101 -- `unix:` is the other kind
            return text, address.path
        parts = urlsplit(text)
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
        is_good = is_good and (parts.port is None or parts.port > 0)
    except (BadValueError, ValueError) as exc:
        raise FailedError(Exit.USAGE, f"--url: {exc}; {expected}") from exc
    if not is_good or parts.query or parts.fragment or not text.isprintable() or not _is_reachable(text):
        raise FailedError(Exit.USAGE, f"--url: {expected}")
    return text.rstrip("/"), None


def _is_reachable(url: str) -> bool:
    """Whether the URL has a host name that can be encoded for resolution."""
    try:
        return bool(httpx.URL(url).host.encode("idna"))
    except (httpx.InvalidURL, ValueError):
        return False


def _refusal(answer: httpx.Response, place: str) -> RefusedError:
    try:
        problem = msgspec.json.decode(answer.content, type=Problem)
    except msgspec.MsgspecError:
        problem = Problem()
    status = answer.status_code
    fact = problem.detail or problem.title or answer.reason_phrase or "no reason given"
    is_known = bool(problem.detail)
    hint = _HINTS.get(status) if status != httpx.codes.NOT_FOUND or not is_known else None
    lines = [f"{fact} ({status} from {place})" + (f"; {hint}" if hint else "")]
    lines += [f"  {_entry_error(one)}" for one in problem.errors[:_MOST_SHOWN]]
    if len(problem.errors) > _MOST_SHOWN:
        lines.append(f"  … and {len(problem.errors) - _MOST_SHOWN:,} more")
    return RefusedError(_code(status, is_known=is_known), "\n".join(lines), status=status)


def _code(status: int, *, is_known: bool) -> Exit:
    if status == httpx.codes.NOT_FOUND and is_known:
        return Exit.ENDED_BADLY
    # A daemon that cannot answer now may answer later, like one that cannot be reached.
    return Exit.UNREACHABLE if status >= httpx.codes.INTERNAL_SERVER_ERROR else Exit.USAGE


def _entry_error(one: EntryError) -> str:
    what = one.id or one.parameter
    return f"{what}: {one.why}" if what else one.why
