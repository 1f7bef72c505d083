"""The web configuration file: what holds, and what the operator reads about what does not."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.config.factories import CREDENTIALS, Loader
from tests.support.certificates import Authority, hashed, write_web_file
from watcher.config import ConfigurationError, load, read_web_file, warnings_of
from watcher.config.tls import Tls

HASH = hashed("made-up")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def folder(tmp_path: Path, authority: Authority) -> Path:
    authority.server(tmp_path)
    authority.save(tmp_path)
    return tmp_path


def problems(folder: Path, text: str) -> list[str]:
    file = folder / "web.yml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_web_file(str(file))
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def context_of(folder: Path, **tls: Any) -> ssl.SSLContext:
    built = read_web_file(str(write_web_file(folder, tls=tls))).tls
    assert built is not None
    return built.context


@pytest.mark.parametrize("text", ["", "{}", "tls_server_config:\nbasic_auth_users:\nhttp_server_config:\n"])
def test_an_empty_file_changes_nothing(folder: Path, text: str):
    (folder / "web.yml").write_text(text)
    found = read_web_file(str(folder / "web.yml"))
    assert (found.tls, found.users, found.headers, found.warnings) == (None, {}, {}, ())


def test_the_defaults_are_those_of_the_toolkit(folder: Path):
    context = context_of(folder)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.maximum_version == ssl.TLSVersion.TLSv1_3
    assert context.verify_mode == ssl.CERT_NONE
    assert context.options & ssl.OP_CIPHER_SERVER_PREFERENCE


def test_every_supported_setting_is_accepted(folder: Path):
    context = context_of(
        folder,
        client_auth_type="RequireAndVerifyClientCert",
        client_ca_file="ca.crt",
        min_version="TLS12",
        max_version="TLS12",
        cipher_suites=["TLS_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"],
        prefer_server_cipher_suites=False,
        curve_preferences=["CurveP384"],
    )
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.maximum_version == ssl.TLSVersion.TLSv1_2
    assert not context.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    of_tls12 = [suite["name"] for suite in context.get_ciphers() if suite["protocol"] == "TLSv1.2"]
    assert of_tls12 == ["ECDHE-ECDSA-AES256-GCM-SHA384"]


@pytest.mark.parametrize("name", ["X25519", "CurveP256", "CurveP521"])
def test_one_curve_can_be_chosen(folder: Path, name: str):
    context_of(folder, curve_preferences=[name])


def test_users_and_headers_are_read_and_hashes_do_not_show(folder: Path):
    headers = {"Strict-Transport-Security": "max-age=1", "X-Frame-Options": "sameorigin", "X-XSS-Protection": 0}
    path = write_web_file(
        folder,
        basic_auth_users={"alice": HASH},
        http_server_config={"headers": headers | {"Content-Security-Policy": ""}},
    )
    found = read_web_file(str(path))
    assert found.users == {b"alice": HASH.encode()}
    assert found.headers == {name: str(value) for name, value in headers.items()}
    assert "$2" not in repr(found)


def test_a_setting_without_effect_or_a_key_readable_by_all_has_a_warning(folder: Path):
    write_web_file(folder, tls={}, http_server_config={"http2": True})
    (folder / "server.key").chmod(0o644)
    loaded = Loader(folder).load("web: {config_file: web.yml}")
    assert "web.config_file: http2 has no effect, this listener speaks HTTP/1.1" in warnings_of(loaded)
    assert f"web.config_file: every user of this machine can read the key in {folder}/server.key" in warnings_of(loaded)


TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
CHANGES: Mapping[str, tuple[str, list[str]]] = {
    "unknown keys": (
        "tls_config: {}\nhttp_server_config: {header: {}}\n",
        [
            'web.yml:1: tls_config: unknown key; did you mean "tls_server_config"?',
            'web.yml:2: http_server_config.header: unknown key; did you mean "headers"?',
        ],
    ),
    "what is not supported": (
        "rate_limit: {interval: 1s}\ntls_server_config: {cert: x, key: y, client_ca: z}\n",
        [
            "web.yml:1: rate_limit: is not supported",
            "web.yml:2: tls_server_config.cert: inline text is not supported; name a file with cert_file",
            "web.yml:2: tls_server_config.key: inline text is not supported; name a file with key_file",
            ("web.yml:2: tls_server_config.client_ca: inline text is not supported; name a file with client_ca_file"),
        ],
    ),
    "no certificate": (
        "tls_server_config: {min_version: TLS13}\n",
        [
            "web.yml:1: tls_server_config.cert_file: is missing; TLS needs a certificate and its key",
            "web.yml:1: tls_server_config.key_file: is missing; TLS needs a certificate and its key",
        ],
    ),
    "clients that are not verified": (
        TLS + "  client_auth_type: RequireAnyClientCert\n",
        [
            (
                "web.yml:4: tls_server_config.client_auth_type: RequireAnyClientCert is not supported: Python verifies "
                "every client certificate that it requests; write RequireAndVerifyClientCert with client_ca_file, "
                "or NoClientCert"
            )
        ],
    ),
    "clients verified by nothing": (
        TLS + "  client_auth_type: VerifyClientCertIfGiven\n",
        [
            (
                "web.yml:4: tls_server_config.client_auth_type: needs client_ca_file, "
                "the certificates by which clients are verified"
            )
        ],
    ),
    "an authority for nothing": (
        TLS + "  client_ca_file: ca.crt\n  client_allowed_sans: [a]\n",
        [
            (
                "web.yml:4: tls_server_config.client_ca_file: has no effect without client_auth_type; "
                "write RequireAndVerifyClientCert"
            ),
            "web.yml:5: tls_server_config.client_allowed_sans: needs client_auth_type: RequireAndVerifyClientCert",
        ],
    ),
    "versions": (
        TLS + "  min_version: TLS10\n  max_version: SSL3\n",
        [
            "web.yml:4: tls_server_config.min_version: TLS10 is insecure and not supported; write TLS12 or TLS13",
            'web.yml:5: tls_server_config.max_version: expected one of TLS12, TLS13, got "SSL3"',
        ],
    ),
    "versions the wrong way round": (
        TLS + "  min_version: TLS13\n  max_version: TLS12\n",
        ["web.yml:4: tls_server_config.min_version: min_version is above max_version"],
    ),
    "suites of TLS 1.3 alone": (
        TLS + "  cipher_suites: [TLS_AES_128_GCM_SHA256]\n",
        ["web.yml:4: tls_server_config.cipher_suites: names no suite of TLS 1.2; add one, or write min_version: TLS13"],
    ),
    "several curves": (
        TLS + "  curve_preferences: [X25519, CurveP256]\n",
        [
            (
                "web.yml:4: tls_server_config.curve_preferences: more than one curve is not supported: "
                "Python sets only one; name one curve, or leave this out"
            )
        ],
    ),
    "wrong types": (
        TLS + "  cipher_suites: x\n  prefer_server_cipher_suites: 7\n  client_ca_file: [x]\nbasic_auth_users: [x]\n",
        [
            "web.yml:4: tls_server_config.cipher_suites: expected a list, got text",
            "web.yml:5: tls_server_config.prefer_server_cipher_suites: expected true or false, got the number 7",
            "web.yml:6: tls_server_config.client_ca_file: expected a single value, got a list",
            "web.yml:7: basic_auth_users: expected a mapping, got a list",
        ],
    ),
    "keys": (
        "? [a]\n: 1\nbasic_auth_users:\n  a: 1\n  a: 2\n",
        [
            "web.yml:1: expected a key, got a list",
            "web.yml:4: basic_auth_users.a: expected text, got the number 1; put it in quotes",
            "web.yml:5: basic_auth_users.a: given twice",
        ],
    ),
    "users": (
        f"basic_auth_users:\n  alice: hunter2\n  bob: $2y$99${'.' * 53}\n  'a:b': {HASH}\n  carol:\n",
        [
            (
                "web.yml:2: basic_auth_users.alice: expected a bcrypt hash, which begins with $2a$, $2b$ or $2y$; "
                "never a password itself"
            ),
            "web.yml:3: basic_auth_users.bob: the cost of a hash must be from 4 to 16, got 99",
            (
                "web.yml:4: basic_auth_users.a:b: a user name must not be empty "
                "and must not have colons or characters that cannot be printed"
            ),
            "web.yml:5: basic_auth_users.carol: expected text, got nothing",
        ],
    ),
    "headers": (
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: allow\n    X-XSS-Protection: 'ä'\n"
            "    Content-Security-Policy: [x]\n    Server: x\n"
        ),
        [
            'web.yml:3: http_server_config.headers.X-Frame-Options: expected one of deny, sameorigin, got "allow"',
            "web.yml:4: http_server_config.headers.X-XSS-Protection: a header may have only printable ASCII characters",
            "web.yml:5: http_server_config.headers.Content-Security-Policy: expected a single value, got a list",
            "web.yml:6: http_server_config.headers.Server: unknown key",
        ],
    ),
    "not YAML": ("tls_server_config: [\n", ["web.yml:2: is not valid YAML: "]),
    "files": (
        "tls_server_config:\n  cert_file: gone.crt\n  key_file: gone.key\n",
        ["web.yml:2: tls_server_config.cert_file: cannot read gone.crt: no such file or directory"],
    ),
    "no PEM": (
        "tls_server_config:\n  cert_file: server.crt\n  key_file: server.crt\n",
        ["web.yml:3: tls_server_config.key_file: server.crt holds no private key in PEM form"],
    ),
    "no certificate in PEM": (
        "tls_server_config:\n  cert_file: server.key\n  key_file: server.key\n",
        ["web.yml:2: tls_server_config.cert_file: server.key holds no certificate in PEM form"],
    ),
    "no authority in PEM": (
        TLS + "  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: server.key\n",
        ["web.yml:5: tls_server_config.client_ca_file: server.key holds no certificates in PEM form"],
    ),
}


@pytest.mark.parametrize(("text", "expected"), CHANGES.values(), ids=CHANGES)
def test_each_mistake_has_exactly_this_message(folder: Path, text: str, expected: list[str]):
    found = problems(folder, text)
    assert len(found) == len(expected)
    assert all(one.startswith(wanted) for one, wanted in zip(found, expected, strict=True)), found


def test_a_key_of_another_certificate_is_reported(folder: Path):
    Authority().client(folder)
    text = "tls_server_config:\n  cert_file: server.crt\n  key_file: client.key\n"
    assert problems(folder, text) == [
        "web.yml:3: tls_server_config.key_file: client.key is not the key of the certificate"
    ]


def test_a_damaged_certificate_and_a_file_that_is_too_large_are_reported(folder: Path):
    (folder / "server.crt").write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    assert problems(folder, TLS)[0].startswith(
        "web.yml:2: tls_server_config.cert_file: certificate or key cannot be used: "
    )
    (folder / "server.crt").write_bytes(b"x" * (1024 * 1024 + 1))
    assert problems(folder, TLS) == ["web.yml:2: tls_server_config.cert_file: server.crt is larger than 1 MiB"]


def test_an_encrypted_key_is_refused_without_a_prompt(folder: Path):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((folder / "server.key").read_bytes(), None)
    sealed = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"made-up"),
    )
    (folder / "server.key").write_bytes(sealed)
    (reported,) = problems(folder, TLS)
    assert reported.startswith("web.yml:3: tls_server_config.key_file: the key is encrypted; ")


def test_errors_of_the_web_file_are_reported_together_with_those_of_the_configuration(folder: Path):
    (folder / "web.yml").write_text("tls: {}\n")
    (folder / "config.yaml").write_text("web:\n  config_file: web.yml\nlog: {level: loud}\n")
    with pytest.raises(ConfigurationError) as caught:
        load(folder / "config.yaml", CREDENTIALS)
    assert [(Path(problem.file).name, problem.line) for problem in caught.value.problems] == [
        ("config.yaml", 3),
        ("web.yml", 1),
    ]


@pytest.mark.parametrize(
    ("allowed", "names", "admits"),
    [
        ((), (), True),
        (("scraper.test",), (("DNS", "scraper.test"),), True),
        (("scraper.test",), (("DNS", "other.test"),), False),
        (("::1",), (("IP Address", "0:0:0:0:0:0:0:1"),), True),
        (("a@b.test", "x"), (("email", "a@b.test"),), True),
        (("spiffe://a/b",), (("URI", "spiffe://a/b"), ("DNS", "z")), True),
        (("x",), (("DirName", "x"),), False),
    ],
)
def test_a_client_is_admitted_by_one_of_its_names(allowed: tuple[str, ...], names: tuple[Any, ...], admits: bool):  # noqa: FBT001
    tls = Tls(context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), allowed_sans=frozenset(allowed))
    assert tls.admits({"subjectAltName": names}) is admits
    assert tls.admits(None) is (not allowed)
