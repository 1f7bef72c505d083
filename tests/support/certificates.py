"""Certificates made for one test, as files on its disk."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import bcrypt
import trustme
import yaml

LOWEST_COST = 4
"""Quick enough for tests."""


class Authority:
    """A certificate authority that trusts no other."""

    def __init__(self) -> None:
        self._made = trustme.CA()

    def server(self, folder: Path, *names: str) -> None:
        """`server.crt` and `server.key` in the folder, for the names."""
        self._write(folder, "server", self._made.issue_cert(*(names or ("localhost", "127.0.0.1"))))

    def client(self, folder: Path, *names: str) -> None:
        """`client.crt` and `client.key` in the folder."""
        self._write(folder, "client", self._made.issue_cert(*(names or ("scraper.test",))))

    def save(self, folder: Path) -> Path:
        """`ca.crt` in the folder."""
        path = folder / "ca.crt"
        self._made.cert_pem.write_to_path(str(path))
        return path

    @staticmethod
    def trusted_from(path: Path) -> ssl.SSLContext:
        """A client's context that trusts what `save` wrote."""
        return ssl.create_default_context(cafile=path)

    def trusting(self, folder: Path | None = None) -> ssl.SSLContext:
        """A client's context that trusts this authority; with the client certificate of the folder."""
        context = ssl.create_default_context()
        self._made.configure_trust(context)
        if folder is not None:
            context.load_cert_chain(folder / "client.crt", folder / "client.key")
        return context

    def _write(self, folder: Path, name: str, leaf: trustme.LeafCert) -> None:
        key = folder / f"{name}.key"
        key.touch(mode=0o600)
        leaf.private_key_pem.write_to_path(str(key))
        (folder / f"{name}.crt").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))


def hashed(password: str, cost: int = LOWEST_COST) -> str:
    """The bcrypt hash of a password, as htpasswd writes it."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode().replace("$2b$", "$2y$", 1)


def write_web_file(folder: Path, **sections: Any) -> Path:
    """`web.yml` in the folder. `tls`: more of `tls_server_config`, whose certificate is `server.crt`."""
    tls = sections.pop("tls", None)
    if tls is not None:
        sections["tls_server_config"] = {"cert_file": "server.crt", "key_file": "server.key"} | tls
    path = folder / "web.yml"
    path.write_text(yaml.safe_dump(sections))
    return path
