"""The web configuration file, in the exporter toolkit's format: TLS, headers and users of the web listener.

It is read as strictly as the watcher's own file: unknown keys, wrong types and files that cannot be used are problems
that name file, line and key path. A feature that is not supported is refused by name. Password hashes are never shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import yaml

from watcher.config import tls
from watcher.config.document import compose, pattern_of, what
from watcher.config.problems import BadValueError, Origin, Problems, suggest
from watcher.config.scalars import Scalar, read_scalar
from watcher.config.secrets import FileSecret
from watcher.core.printable import shortened

MOST_COST = 16
"""Highest cost of a bcrypt hash. A higher one takes longer to check than a scrape may last."""

_MOST_USERS = 1000
_HASH = re.compile(r"\$2[aby]\$(?P<cost>[0-9]{2})\$[./A-Za-z0-9]{53}")
_LOWEST_COST = 4
# The toolkit's list, with the values that it allows. An empty value keeps the watcher's own header.
_HEADERS: Mapping[str, tuple[str, ...]] = {
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}
_INLINE = {"cert": "cert_file", "key": "key_file", "client_ca": "client_ca_file"}
_TLS = (
    "cert_file",
    "key_file",
    "client_auth_type",
    "client_ca_file",
    "client_allowed_sans",
    "min_version",
    "max_version",
    "cipher_suites",
    "prefer_server_cipher_suites",
    "curve_preferences",
)

T = TypeVar("T")
_Nodes: TypeAlias = dict[str, yaml.Node]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebFile:
    """A valid web configuration. `files` are the files to read again when they change.

    `users` maps each user to the bcrypt hash of the password, both as bytes. Without users, no password is needed.
    """

    tls: tls.Tls | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read_web_file(path: str) -> WebFile:
    """Return the content of the file. Raises `ConfigurationError` with every problem."""
    problems = Problems()
    found = _WebFileReader(path, problems).read()
    problems.raise_if_any()
    return found


def note_web_file(path: str, problems: Problems) -> WebFile:
    """Return the valid part of the file; report the rest as problems."""
    return _WebFileReader(path, problems).read()


class _WebFileReader:
    """Walks the nodes. A bad value is reported, and treated as if it had not been given."""

    def __init__(self, file: str, problems: Problems) -> None:
        self._file = file
        self._problems = problems
        self._warnings: list[str] = []

    def read(self) -> WebFile:
        root = compose(Path(self._file), self._problems, waits=False)
        known = ("tls_server_config", "http_server_config", "basic_auth_users")
        sections = {} if root is None else self._mapping(root, "", known, {"rate_limit": "is not supported"})
        settings = self._tls(sections["tls_server_config"]) if "tls_server_config" in sections else None
        return WebFile(
            headers=self._http(sections.get("http_server_config")),
            users=self._users(sections.get("basic_auth_users")),
            tls=None if settings is None else self._build(settings, sections["tls_server_config"]),
            files=(self._file, *(settings.files if settings else ())),
            warnings=tuple(self._warnings),
        )

    # ── tls_server_config ─────────────────────────────────────────────────────────────────────────────────────────────

    def _tls(self, node: yaml.Node) -> tls.TlsSettings | None:
        refused = {name: f"inline text is not supported; name a file with {file}" for name, file in _INLINE.items()}
        section = "tls_server_config"
        before = len(self._problems)
        given = self._mapping(node, section, _TLS, refused)
        if not given:
            return None  # as with the toolkit: an empty section counts as not given

        def value(name: str, read: Callable[[yaml.Node, str], T], default: T) -> T:
            return default if name not in given else self._try(read, given[name], f"{section}.{name}", default)

        def file(name: str) -> str | None:
            found = value(name, self._text, None)
            return None if found is None else str(Path(self._file).parent / found)

        cert_file, key_file, client_ca_file = file("cert_file"), file("key_file"), file("client_ca_file")
        for name in ("cert_file", "key_file"):
            if name not in given:
                self._add(node, f"{section}.{name}", "is missing; TLS needs a certificate and its key")
        suites = value("cipher_suites", self._suites, _NO_TEXTS)
        settings = tls.TlsSettings(
            cert_file=cert_file or "",
            key_file=key_file or "",
            client_auth=value("client_auth_type", lambda it, path: tls.client_auth(self._text(it, path)), _NO_CLIENT),
            client_ca_file=client_ca_file,
            client_allowed_sans=value("client_allowed_sans", self._texts, _NO_TEXTS),
            min_version=value("min_version", lambda it, path: tls.version(self._text(it, path)), tls.VERSIONS["TLS12"]),
            max_version=value("max_version", lambda it, path: tls.version(self._text(it, path)), tls.VERSIONS["TLS13"]),
            suites=suites,
            prefers_own_suites=value("prefer_server_cipher_suites", self._truth, default=True),
            curve=value("curve_preferences", lambda it, path: tls.curve(self._texts(it, path)), None),
        )
        if len(self._problems) == before:
            self._cross_checks(settings, given)
        return settings if len(self._problems) == before else None

    def _suites(self, node: yaml.Node, path: str) -> tuple[str, ...]:
        suites = [tls.suite(name) for name in self._texts(node, path)]
        return tuple(suite for suite in suites if suite is not None)

    def _cross_checks(self, settings: tls.TlsSettings, given: _Nodes) -> None:
        def add(name: str, message: str) -> None:
            self._add(given[name], f"tls_server_config.{name}", message)

        has_users = settings.client_auth != _NO_CLIENT
        if has_users and settings.client_ca_file is None:
            add("client_auth_type", "needs client_ca_file, the certificates by which clients are verified")
        if settings.client_ca_file is not None and not has_users:
            add("client_ca_file", "has no effect without client_auth_type; write RequireAndVerifyClientCert")
        if settings.client_allowed_sans and settings.client_auth != tls.CLIENT_AUTH["RequireAndVerifyClientCert"]:
            add("client_allowed_sans", "needs client_auth_type: RequireAndVerifyClientCert")
        if settings.min_version > settings.max_version:
            add("min_version" if "min_version" in given else "max_version", "min_version is above max_version")
        if "cipher_suites" in given and not settings.suites and settings.min_version == tls.VERSIONS["TLS12"]:
            add("cipher_suites", "names no suite of TLS 1.2; add one, or write min_version: TLS13")

    def _build(self, settings: tls.TlsSettings, node: yaml.Node) -> tls.Tls | None:
        try:
            built = tls.build(settings)
        except tls.FileError as exc:
            self._add(self._child(node, exc.setting), f"tls_server_config.{exc.setting}", exc.message)
            return None
        except BadValueError as exc:
            self._add(node, "tls_server_config", exc.message)
            return None
        if FileSecret(path=settings.key_file).is_world_readable():
            self._warnings.append(
                f"web.config_file: every user of this machine can read the key in {settings.key_file}"
            )
        return built

    # ── http_server_config, basic_auth_users ──────────────────────────────────────────────────────────────────────────

    def _http(self, node: yaml.Node | None) -> Mapping[str, str]:
        section = "http_server_config"
        given = {} if node is None else self._mapping(node, section, ("http2", "headers"))
        if "http2" in given and self._try(self._truth, given["http2"], f"{section}.http2", default=False):
            self._warnings.append("web.config_file: http2 has no effect, this listener speaks HTTP/1.1")
        path = f"{section}.headers"
        headers = self._mapping(given["headers"], path, tuple(_HEADERS)) if "headers" in given else {}
        read = {
            name: self._try(partial(self._header, name), value, f"{path}.{name}", "") for name, value in headers.items()
        }
        return {name: value for name, value in read.items() if value}

    def _header(self, name: str, node: yaml.Node, path: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            return self._text(node, path)
        text = str(node.value)
        if not (text.isascii() and text.isprintable()) and text:
            raise BadValueError("a header may have only printable ASCII characters")
        if text and _HEADERS[name]:
            tls.one_of(text, dict.fromkeys(_HEADERS[name]))
        return text.strip()

    def _users(self, node: yaml.Node | None) -> Mapping[bytes, bytes]:
        if node is None:
            return {}
        users: dict[bytes, bytes] = {}
        given = self._mapping(node, "basic_auth_users", None)
        if len(given) > _MOST_USERS:
            self._add(node, "basic_auth_users", f"has more than {_MOST_USERS} users")
        for name, value in given.items():
            path = f"basic_auth_users.{shortened(name)}"
            if not name or ":" in name or not name.isprintable():
                message = "a user name must not be empty and must not have colons or characters that cannot be printed"
                self._add(value, path, message)
            else:
                users[name.encode()] = self._try(self._hash, value, path, b"")
        return users

    def _hash(self, node: yaml.Node, path: str) -> bytes:
        match = _HASH.fullmatch(self._text(node, path, is_private=True))
        if match is None:
            raise BadValueError("expected a bcrypt hash, which begins with $2a$, $2b$ or $2y$; never a password itself")
        if not _LOWEST_COST <= int(match["cost"]) <= MOST_COST:
            raise BadValueError(f"the cost of a hash must be from {_LOWEST_COST} to {MOST_COST}, got {match['cost']}")
        return match[0].encode()

    # ── nodes ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _mapping(
        self, node: yaml.Node, path: str, known: Sequence[str] | None, refused: Mapping[str, str] | None = None
    ) -> _Nodes:
        """Return the values by key, without null values. `known` None: any key is allowed."""
        if what(node) == "nothing":
            return {}
        if not isinstance(node, yaml.MappingNode):
            self._add(node, path, f"expected a mapping, got {what(node)}")
            return {}
        found: _Nodes = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._add(key, path, f"expected a key, got {what(key)}")
                continue
            at = f"{path}.{shortened(key.value)}".lstrip(".")
            if refused and key.value in refused:
                self._add(key, at, refused[key.value])
            elif known is not None and key.value not in known:
                self._add(key, at, "unknown key", suggestion=suggest(key.value, known))
            elif key.value in found:
                self._add(key, at, "given twice")
            else:
                found[key.value] = value
        if known is None:
            return found
        return {name: value for name, value in found.items() if what(value) != "nothing"}

    def _text(self, node: yaml.Node, path: str, *, is_private: bool = False) -> str:
        return str(read_scalar(self._scalar(node, path, is_private=is_private), str))

    def _truth(self, node: yaml.Node, path: str) -> bool:
        return bool(read_scalar(self._scalar(node, path), bool))

    def _texts(self, node: yaml.Node, path: str) -> tuple[str, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise BadValueError(f"expected a list, got {what(node)}")
        return tuple(self._text(item, path) for item in node.value)

    def _scalar(self, node: yaml.Node, _path: str, *, is_private: bool = False) -> Scalar:
        if not isinstance(node, yaml.ScalarNode):
            raise BadValueError(f"expected a single value, got {what(node)}")
        return Scalar(text=node.value, pattern=pattern_of(node), is_private=is_private)

    def _try(self, read: Callable[[yaml.Node, str], T], node: yaml.Node, path: str, default: Any) -> T:
        try:
            return read(node, path)
        except BadValueError as exc:
            self._add(node, path, exc.message, suggestion=exc.suggestion)
            return default  # type: ignore[no-any-return]  # of the type that is read

    def _child(self, node: yaml.Node, name: str) -> yaml.Node:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        return next((value for key, value in pairs if key.value == name), node)

    def _add(self, node: yaml.Node, path: str, message: str, *, suggestion: str | None = None) -> None:
        origin = Origin(file=self._file, line=node.start_mark.line + 1, path=path)
        self._problems.add(origin, message, suggestion=suggestion)


_NO_TEXTS: tuple[str, ...] = ()
_NO_CLIENT = tls.CLIENT_AUTH[tls.NO_CLIENT_CERTIFICATE]
