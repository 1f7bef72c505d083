"""Sockets that listen before anything is served, so that an address in use is known at the start and said clearly."""

import contextlib
import errno
import socket
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from watcher.config.addresses import TcpAddress, UnixAddress, parse_listen
from watcher.config.problems import BadValueError
from watcher.core.errors import OperatorError
from watcher.deadline import within

Place: TypeAlias = tuple[int, str]
"""An address family and an address in it."""

BACKLOG = 512
RESOLVE_SECONDS = 3.0
"""How long a name to listen at may take to resolve."""

SOCKET_MODE = 0o660
"""Of a Unix socket: members of its group may register; the permissions of its directory come first."""

# Names that mean the same address in both families.
_BOTH_FAMILIES: Mapping[str | None, Sequence[str]] = {
    None: ("0.0.0.0", "::"),  # noqa: S104 -- asked for by leaving the host out
    "localhost": ("127.0.0.1", "::1"),
}
# A machine without IPv6 (or, rarely, IPv4) is no error where the other family can be had.
_NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})
_TRIES_FOR_ONE_PORT = 20

_HINTS: Mapping[int, str] = {
    errno.EADDRINUSE: "stop what listens there, or choose another address",
    errno.EADDRNOTAVAIL: "choose an address of this machine",
    errno.EACCES: "choose a port above 1023, or a place where this user may write",
}


def listening(listen: str, setting: str) -> list[socket.socket]:
    """Sockets that listen at the address, written as in the configuration. Raises OperatorError with the setting."""
    try:
        address = parse_listen(listen)
        return _unix(address) if isinstance(address, UnixAddress) else _tcp(address)
    except BadValueError as exc:
        raise OperatorError(f"{setting}: {exc}") from exc
    except OSError as exc:
        hint = _HINTS.get(exc.errno or 0, "choose another address")
        fact = (exc.strerror or str(exc)).lower()
        raise OperatorError(f"{setting}: cannot listen on {listen}: {fact}; {hint}") from exc


def url_of(sock: socket.socket) -> str:
    """Where the socket listens, as a URL; `unix:` and the path for a Unix socket."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    host, port = name[:2]
    return f"http://[{host}]:{port}" if sock.family == socket.AF_INET6 else f"http://{host}:{port}"


def remove_files(sockets: Sequence[socket.socket]) -> None:
    """Take away the files of Unix sockets that are still open; once closed, the file may belong to another process."""
    for sock in sockets:
        if isinstance(sock, _UnixSocket) and sock.fileno() != -1:
            path = Path(sock.getsockname())
            # Another process may have bound the path after our file was taken away.
            with contextlib.suppress(OSError):
                if _identity(path) == sock.file:
                    path.unlink()


class _UnixSocket(socket.socket):
    """A Unix socket that knows which file it made."""

    file: tuple[int, int] | None = None


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def let_go(sockets: Sequence[socket.socket]) -> None:
    """Close the sockets, and take away their files."""
    remove_files(sockets)
    for sock in sockets:
        sock.close()


def on_one_port(listen: Callable[[], list[socket.socket]]) -> list[socket.socket]:
    """What `listen` opens on a port that the system chooses; it may be taken in the other family, so try again."""
    for _ in range(_TRIES_FOR_ONE_PORT - 1):
        try:
            return listen()
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
    return listen()


def tcp_sockets(places: Sequence[Place], port: int) -> list[socket.socket]:
    """Sockets that listen at all places that this machine has, at least one, on the same port. Raises OSError."""
    sockets: list[socket.socket] = []
    missing: list[OSError] = []
    try:
        for family, host in places:
            try:
                sock = _listen_tcp(family, host, port)
            except OSError as exc:
                if exc.errno not in _NO_SUCH_FAMILY or len(missing) == len(places) - 1:
                    raise
                missing.append(exc)
                continue
            sockets.append(sock)
            port = sock.getsockname()[1]
    except OSError:
        let_go(sockets)
        raise
    return sockets


def _tcp(address: TcpAddress) -> list[socket.socket]:
    places = _places(address.host)
    if address.port:
        return tcp_sockets(places, address.port)
    return on_one_port(lambda: tcp_sockets(places, 0))


def _places(host: str | None) -> Sequence[Place]:
    names = _BOTH_FAMILIES.get(host and host.lower()) or (host,)
    found = (place for name in names for place in _resolved(name))
    # A name may be listed with the same address more than once.
    return [*dict.fromkeys((family, str(where[0])) for family, _, _, _, where in found)]


def _resolved(name: str | None) -> Sequence[tuple[int, int, int, str, tuple[str | int, ...]]]:
    """The addresses of a name; the event loop waits for it, so not for long. Raises OSError."""
    found = within(RESOLVE_SECONDS, lambda: socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))
    assert isinstance(found, list)  # noqa: S101 -- what getaddrinfo gives
    return found


def _listen_tcp(family: int, host: str, port: int) -> socket.socket:
    # asyncio switches the delay of small packets off only where the protocol is named.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        # Two sockets may share a port until one of them listens.
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)  # noqa: FBT003 -- the standard library's name
    return sock


def _unix(address: UnixAddress) -> list[socket.socket]:
    path = Path(address.path)
    _remove_stale(path)
    sock = _UnixSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(address.path)
        sock.file = _identity(path)
        # Until it listens no client can connect, so the permissions are set before the first does.
        path.chmod(SOCKET_MODE)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)  # noqa: FBT003 -- the standard library's name
    return [sock]


def _remove_stale(path: Path) -> None:
    """Take away the socket of a process that is gone; whatever else is there stays, and binding will say so."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        if probe.connect_ex(str(path)) == errno.ECONNREFUSED:
            path.unlink(missing_ok=True)
