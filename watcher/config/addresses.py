"""Addresses to listen on, and whether only this machine can reach them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from watcher.config.problems import BadValueError
from watcher.core.printable import shortened

_TCP = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:]*):(?P<port>[0-9]{1,5})")
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?")
_MOST_PORT = 65535
_MOST_SOCKET_PATH_BYTES = 107  # sun_path of Linux, less its final zero


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpAddress:
    """A port, on one host or (None) on all addresses of both families; port 0 lets the system choose."""

    host: str | None
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine (in Kubernetes: this pod) reaches it."""
        return self.host is not None and is_loopback(self.host)

    def overlaps(self, other: TcpAddress) -> bool:
        """Whether both cannot be listened on at once."""
        anywhere = {None, "0.0.0.0", "::"}  # noqa: S104 - compared with, not bound to
        is_same_host = self.host == other.host or self.host in anywhere or other.host in anywhere
        return self.port == other.port != 0 and is_same_host


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixAddress:
    """A Unix socket; the permissions of its directory decide which users can reach it."""

    path: str


def parse_listen(text: str) -> TcpAddress | UnixAddress:
    """Return the address in `host:port`, `:port`, `[v6]:port` or `unix:/path`. Raises `BadValueError`."""
    if text.startswith("unix:"):
        return _parse_unix(text.removeprefix("unix:"))
    match = _TCP.fullmatch(text)
    if match is None:
        message = f"expected host:port, :port or [IPv6 address]:port, got {_shown(text)}"
        raise BadValueError(message)
    port = int(match["port"])
    if port > _MOST_PORT:
        raise BadValueError(f"the port must be at most {_MOST_PORT}, got {port}")
    return TcpAddress(host=_parse_host(match["host"]) or None, port=port)


def is_loopback(host: str) -> bool:
    """Whether the host is `localhost` or a loopback address. No name is resolved."""
    if host.casefold() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_host(host: str) -> bool:
    """Whether the text can be a host: a name, an IPv4 address, or an IPv6 address without brackets."""
    try:
        ip_address(host)
    except ValueError:
        # All digits and dots is a misspelt IPv4 address, not a name.
        return _HOST_NAME.fullmatch(host) is not None and re.fullmatch(r"[0-9.]+", host) is None
    return True


def _parse_unix(path: str) -> UnixAddress:
    if not path.startswith("/"):
        message = "the path of a Unix socket must be absolute, as in unix:/run/watcher/admin.sock"
        raise BadValueError(message)
    if len(path.encode()) > _MOST_SOCKET_PATH_BYTES:
        raise BadValueError(f"the path of a Unix socket must have at most {_MOST_SOCKET_PATH_BYTES} bytes")
    return UnixAddress(path=path)


def _parse_host(text: str) -> str:
    host = text.removeprefix("[").removesuffix("]")
    if text.startswith("["):
        try:
            return str(IPv6Address(host))
        except ValueError:
            raise BadValueError(f"expected an IPv6 address in the brackets, got {_shown(host)}") from None
    if host and not is_host(host):
        raise BadValueError(f"expected a host name or an IP address before the port, got {_shown(host)}")
    return host


def _shown(text: str) -> str:
    return f'"{shortened(text)}"'
