"""Bounds and patterns for values of the right type, in one table over all settings.

A rule takes the typed value and returns it, perhaps normalized, or raises `BadValueError`. A path that ends in `[]` is
for the items of a list. Checks across several settings are in `watcher.config.cross_checks`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from watcher.config.addresses import TcpAddress, is_host, parse_listen
from watcher.config.problems import BadValueError, suggest
from watcher.config.scalars import format_duration
from watcher.core.model import is_operation_id
from watcher.core.printable import shortened

Rule = Callable[[Any], Any]

RESERVED_LABELS = frozenset(
    {"account", "channel", "code", "endpoint", "kind", "le", "operation_id", "outcome", "state", "status"}
)
"""Labels that the watcher's own series carry."""

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("json", "console")
SQLITE = "sqlite:///"

_MOST_LABELS = 10
_MOST_LABEL_LENGTH = 128
_MOST_SETTLING_READS = 10
_MOST_PER_SECOND = 1000
_ACCOUNT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ACCOUNT_ID = re.compile(r"AC[0-9a-fA-F]{32}")
_API_KEY = re.compile(r"SK[0-9a-fA-F]{32}")
_LABEL = re.compile(r"[a-z_][a-z0-9_]*")
_HOST_HEADER = re.compile(r"(\[(?P<v6>[^\[\]]+)\]|(?P<name>[^\[\]:]+))(:[0-9]{1,5})?")
_BARE_SECRET = re.compile(r"[0-9A-Za-z]{32}")


def check(path: str, value: Any) -> Any:
    """Return the value of the setting at the generic path, normalized. Raises `BadValueError` if it is bad."""
    rule = RULES.get(path)
    return value if rule is None else rule(value)


def is_private(path: str) -> bool:
    """Whether the value at the generic path may be a credential put there by mistake, so that it must not be shown."""
    return path in _PRIVATE or path.endswith("_file")


def _between(low: Any, high: Any) -> Rule:
    def rule(value: Any) -> Any:
        if value < low:
            raise BadValueError(f"must be at least {_written(low)}, got {_written(value)}")
        if value > high:
            raise BadValueError(f"must be at most {_written(high)}, got {_written(value)}")
        return value

    return rule


def _one_of(choices: Sequence[str]) -> Rule:
    def rule(value: str) -> str:
        if value not in choices:
            message = f'expected one of {", ".join(choices)}, got "{shortened(value)}"'
            raise BadValueError(message, suggestion=suggest(value, choices))
        return value

    return rule


def _like(pattern: re.Pattern[str], wanted: str) -> Rule:
    def rule(value: str) -> str:
        if not pattern.fullmatch(value):
            raise BadValueError(f"expected {wanted}")
        return value

    return rule


def _written(value: Any) -> str:
    if value in {timedelta.max, math.inf}:
        return "far more"
    return format_duration(value) if isinstance(value, timedelta) else f"{value:,}"


def _account_name(value: str) -> str:
    if not _ACCOUNT_NAME.fullmatch(value):
        wanted = "up to 64 letters, digits, dots, hyphens and underscores, the first a letter or digit"
        raise BadValueError(f'expected {wanted}, got "{shortened(value)}"')
    return value


def _file(value: str) -> str:
    if _BARE_SECRET.fullmatch(value):
        raise BadValueError("this looks like a secret itself; write the path of the file that holds it")
    return value


def _base_url(value: str) -> str:
    if not _is_url(value):
        raise BadValueError("expected a URL such as https://comms.twilio.com/v1")
    if "@" in urlsplit(value).netloc:
        raise BadValueError("the URL must not hold credentials; they have settings of their own")
    if "?" in value or "#" in value:
        raise BadValueError("the URL must end with its path: no ? and no #")
    if not _can_be_asked(value):
        raise BadValueError("the URL has an invalid host name")
    return value.rstrip("/")


def _can_be_asked(url: str) -> bool:
    """Whether the HTTP client accepts the URL too; it allows fewer names and addresses."""
    import httpx  # only where a URL was given

    try:
        return bool(httpx.URL(url).host)
    except (httpx.InvalidURL, ValueError):
        return False


def _is_url(value: str) -> bool:
    try:
        url = urlsplit(value)
        host, port = url.hostname, url.port
    except ValueError:
        return False
    is_plain = re.search(r"[\s\\]", value) is None
    return is_plain and url.scheme in {"https", "http"} and port != 0 and host is not None and is_host(host)


def _operation_id(value: str) -> str:
    if not is_operation_id(value):
        raise BadValueError(f'expected an operation id (comms_operation_…), got "{shortened(value)}"')
    return value


def _without_repeats(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _share(value: float) -> float:
    if value <= 0:
        raise BadValueError(f"must be more than 0, got {value:g}")
    if value > _MOST_PER_SECOND:
        raise BadValueError(f"must be at most {_written(_MOST_PER_SECOND)}, got {_written(value)}")
    return value


def _settle_after(values: tuple[timedelta, ...]) -> tuple[timedelta, ...]:
    if len(values) > _MOST_SETTLING_READS:
        raise BadValueError(f"at most {_MOST_SETTLING_READS} waits, got {len(values)}")
    if any(later <= earlier for earlier, later in pairwise(values)):
        raise BadValueError("each wait counts from the end, so each must be longer than the one before")
    return values


def _label(value: str) -> str:
    if not _LABEL.fullmatch(value) or len(value) > _MOST_LABEL_LENGTH:
        raise BadValueError(
            f'expected a label name of a-z, 0-9 and _ that does not begin with a digit, got "{shortened(value)}"'
        )
    if value in RESERVED_LABELS:
        raise BadValueError(f'the label "{value}" is used by the watcher itself')
    if value.startswith("__"):
        raise BadValueError(f'labels that begin with __ are used by Prometheus itself, got "{shortened(value)}"')
    return value


def _labels(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(values) > _MOST_LABELS:
        raise BadValueError(f"at most {_MOST_LABELS} labels, got {len(values)}")
    repeated = next((value for at, value in enumerate(values) if value in values[:at]), None)
    if repeated is not None:
        raise BadValueError(f'duplicate label "{repeated}"')
    return values


def _storage_url(value: str) -> str:
    scheme = value.partition(":")[0].partition("+")[0]
    if scheme in {"postgres", "postgresql"}:
        raise BadValueError("PostgreSQL is not supported yet; use sqlite:///path/to/file.db")
    path = value.removeprefix(SQLITE)
    if path == value or not path.strip("/") or path.endswith("/") or path.startswith(":") or re.search(r"[?#]", path):
        raise BadValueError("expected sqlite:///relative/path.db or sqlite:////absolute/path.db")
    return value


def _listen(value: str) -> str:
    parse_listen(value)
    return value


def _listen_tcp(value: str) -> str:
    if not isinstance(parse_listen(value), TcpAddress):
        raise BadValueError("only the admin listener can be a Unix socket; expected host:port or :port")
    return value


def _allowed_host(value: str) -> str:
    match = _HOST_HEADER.fullmatch(value)
    if match is None or not is_host(match["v6"] or match["name"]):
        raise BadValueError(f'expected a host as in the Host header, without scheme and path, got "{shortened(value)}"')
    return value.lower()


RULES: Mapping[str, Rule] = {
    "accounts[].name": _account_name,
    "accounts[].account_id": _like(_ACCOUNT_ID, "AC followed by 32 hexadecimal digits"),
    "accounts[].auth_token_file": _file,
    "accounts[].api_key": _like(_API_KEY, "SK followed by 32 hexadecimal digits"),
    "accounts[].api_key_secret_file": _file,
    "accounts[].base_url": _base_url,
    "accounts[].operations": _without_repeats,
    "accounts[].operations[]": _operation_id,
    "accounts[].discover_since": _between(timedelta(0), timedelta(days=7)),
    "accounts[].max_requests_per_second": _share,
    "accounts[].max_concurrency": _between(1, 64),
    "polling.freshness": _between(timedelta(milliseconds=500), timedelta(hours=1)),
    "polling.request_timeout": _between(timedelta(milliseconds=100), timedelta(minutes=5)),
    "polling.settle_after": _settle_after,
    "polling.settle_after[]": _between(timedelta(milliseconds=1), timedelta(hours=24)),
    "polling.not_found_grace": _between(timedelta(0), timedelta(hours=24)),
    "storage.url": _storage_url,
    "storage.keep": _between(timedelta(minutes=1), timedelta(days=365)),
    "metrics.hold": _between(timedelta(0), timedelta(days=30)),
    "metrics.hold_at_most": _between(timedelta(0), timedelta(days=30)),
    "metrics.max_operations": _between(0, 1_000_000),
    "metrics.labels": _labels,
    "metrics.labels[]": _label,
    "metrics.counter_labels": _labels,
    "metrics.counter_labels[]": _label,
    "web.listen": _listen_tcp,
    "admin.listen": _listen,
    "admin.token_file": _file,
    "admin.allowed_hosts": _without_repeats,
    "admin.allowed_hosts[]": _allowed_host,
    "log.level": _one_of(LOG_LEVELS),
    "log.format": _one_of(LOG_FORMATS),
}

_PRIVATE = frozenset({"accounts[].account_id", "accounts[].api_key", "accounts[].base_url", "storage.url"})
