"""Which proxy is used for a URL, read from the environment as curl and Go read it.

    https_proxy, HTTPS_PROXY    for https; http_proxy, HTTP_PROXY for http; all_proxy, ALL_PROXY where neither is set
    no_proxy, NO_PROXY          hosts without a proxy: `*`, or a list of names (with their subdomains), addresses and
                                networks, each perhaps in brackets and with a port

The lower-case variable wins. An invalid entry of NO_PROXY matches nothing. Loopback is never requested through a
proxy: the proxy would see the credentials, and would reach its own machine instead of this one.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from watcher.config.addresses import is_loopback
from watcher.config.problems import BadValueError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PORTS = {"http": 80, "https": 443}
_VARIABLES = {"http": ("http_proxy", "HTTP_PROXY"), "https": ("https_proxy", "HTTPS_PROXY")}
_ANY = ("all_proxy", "ALL_PROXY")
_NONE = ("no_proxy", "NO_PROXY")
_EXPECTED = "not the URL of an HTTP proxy, such as http://proxy.internal:3128"
_BRACKETED = re.compile(r"\[(?P<host>[^\[\]]*)\](?::(?P<port>.*))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy and the variable that names it. The URL may hold a password, so it is never shown."""

    variable: str
    url: str

    def __str__(self) -> str:
        """Host and port, without credentials."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    def __repr__(self) -> str:
        return f"Proxy({self.variable})"


class ProxyError(BadValueError):
    """The variable does not hold the URL of a proxy. The message does not repeat its value."""

    def __init__(self, variable: str) -> None:
        super().__init__(_EXPECTED)
        self.variable = variable


def choose_proxy(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for the URL, None for a direct connection. Raises ProxyError."""
    parts = urlsplit(url)
    host, port = _plain(parts.hostname or ""), parts.port or _PORTS.get(parts.scheme, 0)
    variable, value = _first(environ, (*_VARIABLES.get(parts.scheme, ()), *_ANY))
    if not value or is_loopback(host) or host.endswith(".localhost"):
        return None
    if any(_matches(entry, host, port) for entry in re.split(r"[\s,]+", _first(environ, _NONE)[1])):
        return None
    return _parse(variable, value)


def _parse(variable: str, value: str) -> Proxy:
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or not url.isascii() or not url.isprintable() or " " in url:
        raise ProxyError(variable)
    return Proxy(variable=variable, url=url)


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str]:
    """Return the first of the variables that is not empty, and its value; empty texts if all are."""
    return next(((name, value) for name in names if (value := environ.get(name, "").strip())), ("", ""))


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    name, wanted_port = _split(entry)
    if wanted_port is not None and wanted_port != str(port):
        return False
    address = _address(host)
    if address is not None:
        return _holds(name, address)
    name = _plain(name).removeprefix("*").lstrip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split(entry: str) -> tuple[str, str | None]:
    """Return host and port of an entry. An IPv6 address without a port needs no brackets."""
    if (match := _BRACKETED.fullmatch(entry)) is not None:
        return match["host"], match["port"]
    if entry.count(":") == 1:
        host, _, port = entry.partition(":")
        return host, port
    return entry, None


def _holds(name: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        network = ipaddress.ip_network(name, strict=False)
    except ValueError:
        return False
    return address in network


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def _plain(host: str) -> str:
    return host.lower().removesuffix(".")
