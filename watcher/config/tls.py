"""TLS of the web listener: builds the context for handshakes from the web configuration file.

The names are those of the exporter toolkit, which are Go's. A feature that Python's `ssl` does not have is refused by
name, never ignored: it cannot request a client certificate without verifying it, and it can set only one curve.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from watcher.config.problems import BadValueError, suggest
from watcher.config.secrets import content_of
from watcher.core.printable import shortened

NO_CLIENT_CERTIFICATE = "NoClientCert"
CLIENT_AUTH: Mapping[str, ssl.VerifyMode] = {
    NO_CLIENT_CERTIFICATE: ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED = frozenset({"RequestClientCert", "RequireAnyClientCert", "RequireClientCert"})
VERSIONS: Mapping[str, ssl.TLSVersion] = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_OLD_VERSIONS = frozenset({"TLS10", "TLS11"})

# Python cannot choose among the suites of TLS 1.3; all three are secure and always enabled.
_SUITES_OF_TLS13 = frozenset({"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})
SUITES: Mapping[str, str] = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}
CURVES: Mapping[str, str] = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}
_MOST_BYTES = 1024 * 1024
_SAN_KINDS = frozenset({"DNS", "email", "IP Address", "URI"})


class FileError(BadValueError):
    """A file cannot be used; `setting` is the setting that names it."""

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """The content of `tls_server_config`, each value valid by itself. `suites` and `curve` are names of OpenSSL."""

    cert_file: str
    key_file: str
    client_auth: ssl.VerifyMode = ssl.CERT_NONE
    client_ca_file: str | None = None
    client_allowed_sans: tuple[str, ...] = ()
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    suites: tuple[str, ...] = ()
    prefers_own_suites: bool = True
    curve: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The files to read again when they change."""
        return (self.cert_file, self.key_file, *([self.client_ca_file] if self.client_ca_file else []))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """The context for handshakes, and the names of which a client certificate must have one; empty: any name."""

    context: ssl.SSLContext
    allowed_sans: frozenset[str] = frozenset()

    def admits(self, certificate: Mapping[str, Any] | None) -> bool:
        """Whether the client's certificate, as `getpeercert` gives it, has one of the allowed names."""
        return not self.allowed_sans or not self.allowed_sans.isdisjoint(_names(certificate or {}))


def client_auth(name: str) -> ssl.VerifyMode:
    """Return the mode of that name. Raises `BadValueError`."""
    if name in _UNVERIFIED:
        raise BadValueError(
            f"{name} is not supported: Python verifies every client certificate that it requests; "
            "write RequireAndVerifyClientCert with client_ca_file, or NoClientCert"
        )
    return CLIENT_AUTH[one_of(name, CLIENT_AUTH)]


def version(name: str) -> ssl.TLSVersion:
    """Return the version of that name. Raises `BadValueError`."""
    if name in _OLD_VERSIONS:
        raise BadValueError(f"{name} is insecure and not supported; write TLS12 or TLS13")
    return VERSIONS[one_of(name, VERSIONS)]


def suite(name: str) -> str | None:
    """Return OpenSSL's name of a suite; None for a suite of TLS 1.3, always enabled. Raises `BadValueError`."""
    return None if name in _SUITES_OF_TLS13 else SUITES[one_of(name, SUITES)]


def curve(names: Sequence[str]) -> str | None:
    """Return OpenSSL's name of the curve, or None if none is named. Raises `BadValueError`."""
    known = [CURVES[one_of(name, CURVES)] for name in names]
    if len(known) > 1:
        message = "more than one curve is not supported: Python sets only one; name one curve, or leave this out"
        raise BadValueError(message)
    return next(iter(known), None)


def one_of(name: str, known: Mapping[str, object]) -> str:
    """Return the name if it is known. Raises `BadValueError`."""
    if name not in known:
        message = f'expected one of {", ".join(known)}, got "{shortened(name)}"'
        raise BadValueError(message, suggestion=suggest(name, known))
    return name


def build(settings: TlsSettings) -> Tls:
    """Return the context, with the certificate loaded. Raises `FileError`; `BadValueError` at a limit of OpenSSL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = settings.min_version
    context.maximum_version = settings.max_version
    # HTTP/1.1 is the only protocol of this listener; ALPN says so to clients that use it.
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if not settings.prefers_own_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        if settings.suites:
            context.set_ciphers(":".join(settings.suites))
        if settings.curve is not None:
            context.set_ecdh_curve(settings.curve)
    except (ssl.SSLError, ValueError) as exc:
        raise BadValueError("the OpenSSL of this machine supports none of the cipher_suites, or not the curve") from exc
    _load_certificate(context, settings)
    if settings.client_ca_file is not None:
        _load_authorities(context, settings.client_ca_file)
    context.verify_mode = settings.client_auth
    return Tls(context=context, allowed_sans=frozenset(map(_san, settings.client_allowed_sans)))


def _load_certificate(context: ssl.SSLContext, settings: TlsSettings) -> None:
    if b"-----BEGIN CERTIFICATE-----" not in _content("cert_file", settings.cert_file):
        raise FileError("cert_file", f"{settings.cert_file} holds no certificate in PEM form")
    if b"PRIVATE KEY-----" not in _content("key_file", settings.key_file):
        raise FileError("key_file", f"{settings.key_file} holds no private key in PEM form")
    try:
        context.load_cert_chain(settings.cert_file, settings.key_file, password=_ask_for_no_password)
    except ssl.SSLError as exc:
        if exc.reason == "KEY_VALUES_MISMATCH":
            raise FileError("key_file", f"{settings.key_file} is not the key of the certificate") from exc
        raise FileError("cert_file", f"certificate or key cannot be used: {_reason(exc)}") from exc
    except OSError as exc:  # removed between the two reads
        raise FileError("cert_file", f"cannot read certificate or key: {_fact(exc)}") from exc


def _load_authorities(context: ssl.SSLContext, file: str) -> None:
    try:
        context.load_verify_locations(cadata=_content("client_ca_file", file).decode("ascii", errors="replace"))
    except ssl.SSLError as exc:
        raise FileError("client_ca_file", f"{file} holds no certificates in PEM form") from exc


def _content(setting: str, file: str) -> bytes:
    try:
        content = content_of(file, _MOST_BYTES)
    except OSError as exc:
        raise FileError(setting, f"cannot read {file}: {_fact(exc)}") from exc
    if len(content) > _MOST_BYTES:
        raise FileError(setting, f"{file} is larger than 1 MiB")
    return content


def _ask_for_no_password() -> NoReturn:
    # Without this, OpenSSL would prompt for a passphrase on the terminal.
    message = "the key is encrypted; write it without a passphrase into a file that only the watcher can read"
    raise FileError("key_file", message)


def _names(certificate: Mapping[str, Any]) -> set[str]:
    return {_san(name) for kind, name in certificate.get("subjectAltName", ()) if kind in _SAN_KINDS}


def _san(name: str) -> str:
    """One spelling for each IP address."""
    try:
        return str(ipaddress.ip_address(name.strip()))
    except ValueError:
        return name


def _reason(exc: ssl.SSLError) -> str:
    return (exc.reason or "not understood").lower().replace("_", " ")


def _fact(exc: OSError) -> str:
    return (exc.strerror or str(exc)).lower()
