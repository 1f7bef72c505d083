"""`watcher healthcheck`: requests `/-/healthy` from web. Uses only the standard library, and little of it.

Plain HTTP and TLS are both tried, in the order that the configuration suggests. A certificate is not verified: it is
issued for other names than that of this machine, and neither the request nor the answer is a secret.
"""

from __future__ import annotations

import os
import re
import socket
from argparse import Namespace
from collections.abc import Sequence

from watcher.cli.address import DEFAULT_LISTEN, find_web
from watcher.cli.exits import Exit, FailedError
from watcher.cli.output import say, warn
from watcher.deadline import within

TIMEOUT_SECONDS = 3.0
WHOLE_SECONDS = 2 * TIMEOUT_SECONDS
PATH = "/-/healthy"

_MOST_BYTES = 64 * 1024
_CERTIFICATE_HINT = "; if web requires a client certificate, use admin: --url http://localhost:10618"
_PORTS = range(1, 65536)
_LISTEN = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:/]*):(?P<port>[0-9]{1,5})")
_URL = re.compile(
    r"(?:(?P<tls>https)|http)://(?P<host>\[[^\[\]]+\]|[^\[\]:/?#@\s]+)(:(?P<port>[0-9]{1,5}))?(?P<path>/[!-~]*)?"
)
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r\n]")
_DETAIL = re.compile(rb'"detail":"([^"\\]*)"')
# A listener on all addresses is requested on loopback.
_LOOPBACK = {"": ("127.0.0.1", "::1"), "0.0.0.0": ("127.0.0.1",), "::": ("::1", "127.0.0.1")}  # noqa: S104


class UnhealthyError(Exception):
    """The daemon is not healthy, or its health cannot be determined; the message says why."""


class Target:
    """Where to send the request: hosts and a port, or a Unix socket. `tls`: with TLS or without, in this order."""

    def __init__(self, places: Sequence[tuple[str, int] | str], tls: Sequence[bool], path: str = PATH) -> None:
        self.places = places
        self.tls = tls
        self.path = path


def execute(arguments: Namespace) -> int:
    """Request it once."""
    try:
        target = _of_url(arguments.url) if arguments.url else _configured(arguments.config)
        # Each step has its own limit; this one covers slow name resolution and an answer that arrives byte by byte.
        within(WHOLE_SECONDS, lambda: ask(target))
    except TimeoutError:
        warn(f"watcher healthcheck: no answer within {WHOLE_SECONDS:g} s")
        return Exit.ENDED_BADLY
    except UnhealthyError as exc:
        warn(f"watcher healthcheck: {exc}")
        return Exit.ENDED_BADLY
    say("healthy")
    return Exit.GOOD


def ask(target: Target, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
    """Return if the answer is 200. Raises UnhealthyError otherwise."""
    reasons: dict[str, None] = {}  # each once, in order
    for place in target.places:
        for tls in target.tls:
            where = f"{_shown(place)}{' in TLS' if tls else ''}"
            try:
                connection = _connect(place, timeout_seconds)
            except (OSError, UnicodeError) as exc:  # UnicodeError: the name cannot be encoded for resolution
                reasons[f"cannot reach {_shown(place)}: {_fact(exc)}"] = None
                break
            try:
                with connection:
                    answer = _exchange(connection, target.path, tls=tls)
            except TimeoutError:
                raise UnhealthyError(f"no answer from {where} within {timeout_seconds:g} s") from None
            except OSError as exc:
                reasons[f"no answer from {where}: {_fact(exc)}{_CERTIFICATE_HINT if tls else ''}"] = None
                continue
            status = _STATUS.match(answer)
            if status is None:
                reasons[f"no HTTP from {where}{_CERTIFICATE_HINT if tls else ''}"] = None
            elif status[1] == b"200":
                return
            else:
                detail = _DETAIL.search(answer)
                why = f": {detail[1].decode(errors='replace')}" if detail else ""
                raise UnhealthyError(f"{_shown(place)} answers {status[1].decode()}{why}")
    raise UnhealthyError("; ".join(reasons))


def _configured(config: str | None) -> Target:
    listen, has_config_file = find_web(config, os.environ)
    match = _LISTEN.fullmatch(listen) or _LISTEN.fullmatch(DEFAULT_LISTEN)
    assert match is not None  # noqa: S101 -- the default fits
    port = int(match["port"])
    if port not in _PORTS:
        raise UnhealthyError("web.listen lets the system choose the port; use --url to say where the daemon is")
    host = match["host"].strip("[]")
    places = [(each, port) for each in _LOOPBACK.get(host, (host,))]
    return Target(places, tls=(True, False) if has_config_file else (False, True))


def _of_url(url: str) -> Target:
    if url.startswith("unix:/"):
        return Target([url.removeprefix("unix:")], tls=(False,))
    match = _URL.fullmatch(url)
    tls = match is not None and match["tls"] is not None
    if match is None or int(port := match["port"] or (443 if tls else 80)) not in _PORTS:
        raise FailedError(Exit.USAGE, "--url: expected http://host:port, https://host:port or unix:/path")
    path = match["path"] or "/"
    return Target([(match["host"].strip("[]"), int(port))], tls=(tls,), path=PATH if path == "/" else path)


def _connect(place: tuple[str, int] | str, timeout_seconds: float) -> socket.socket:
    if not isinstance(place, str):
        return socket.create_connection(place, timeout_seconds)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_seconds)
    try:
        connection.connect(place)
    except OSError:
        connection.close()
        raise
    return connection


def _exchange(connection: socket.socket, path: str, *, tls: bool) -> bytes:
    if tls:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = context.wrap_socket(connection)
    with connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while len(answer) < _MOST_BYTES and (piece := connection.recv(_MOST_BYTES)):
            answer += piece
    return answer


def _shown(place: tuple[str, int] | str) -> str:
    if isinstance(place, str):
        return place
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _fact(exc: OSError | UnicodeError) -> str:
    if isinstance(exc, UnicodeError):
        return "not a valid host name"
    return (exc.strerror or str(exc)).lower()
