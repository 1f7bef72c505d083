"""Nonsense by the thousand, repeatable: sane values bent, sane bytes broken, and what never made sense."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

_TEXTS = (
    *("", " ", "\0", "\n", "null", "~", "true", "-0", "1e999", "NaN", "0x1f", "1_000", "5s", "24h", "-5s", "9" * 400),
    *("comms_operation_01h9krwprkeee8fzqspvwy6nq8", "comms_operation_", "../../etc/passwd", "unix:/", "[::1]:", ":0"),
    *("localhost:10618", "https://[", "http://a:b@c/", "sqlite://", "%s{}${}", "'\"`;--", "<script>", "&amp;", "*a"),
    *("\ud800", "\udfff", "\u202e", "\ufeff", "\uffff", "\U0001f514", "é", "\x1b[31m", "\x7f", "\u2028", "a" * 200),
    *("2024-01-15T09:30:00Z", "9999-12-31T23:59:59.999999-23:59", "0001-01-01T00:00:00Z", "COMPLETED", "__proto__"),
)
_NUMBERS = (0, -1, 1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**400, 0.5, -0.0, 1e308, math.nan, math.inf)
_PIECES = (
    *(b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"{", b"}", b"[", b"]", b'"', b"'", b":", b",", b"\\"),
    *(
        b"\\u0000",
        b"\\ud800",
        b"\n",
        b"\t",
        b"  ",
        b"- ",
        b"&a ",
        b"*a",
        b"<<: ",
        b"!!python/object:os.system ",
        b"---\n",
        b'"\\UFFFFFFFF"',
        b"%YAML 1.99999999999999999999\n---\n",
    ),
    *(b"? ", b"| ", b"> ", b"# ", b"%YAML 9.9\n", b"null", b"1e999", b"NaN", b"[" * 200, b'{"a":' * 200, b"9" * 5000),
)


class Nonsense:
    """The same from the same seed."""

    def __init__(self, seed: int | str) -> None:
        self.rng = Random(seed)

    def text(self) -> str:
        """Likely to be awkward."""
        if self.rng.random() < 0.6:
            return self.rng.choice(_TEXTS)
        return "".join(chr(self.rng.choice(_RANGES)(self.rng)) for _ in range(self.rng.randrange(30)))

    def value(self, depth: int = 0) -> Any:
        """What JSON can say, and the numbers that Python's JSON says besides."""
        kind = self.rng.randrange(8 if depth < 3 else 5)
        match kind:
            case 0 | 1:
                return self.text()
            case 2:
                return self.rng.choice((None, True, False))
            case 3 | 4:
                return self.rng.choice(_NUMBERS)
            case 5 | 6:
                return {self.text(): self.value(depth + 1) for _ in range(self.rng.randrange(4))}
            case _:
                return [self.value(depth + 1) for _ in range(self.rng.randrange(4))]

    def bent(self, sane: Any, often: float = 0.15) -> Any:
        """The value with some of its parts replaced, left out, doubled or renamed."""
        if self.rng.random() < often:
            return self.value()
        if isinstance(sane, dict):
            return {
                (self.text() if self.rng.random() < often / 3 else name): self.bent(one, often)
                for name, one in sane.items()
                if self.rng.random() > often / 3
            }
        if isinstance(sane, list):
            return [self.bent(one, often) for one in sane for _ in range(self.rng.choice((1, 1, 1, 2)))]
        return sane

    def broken(self, sane: bytes) -> bytes:
        """The bytes with a few places cut, doubled, turned or filled."""
        body = bytearray(sane)
        for _ in range(self.rng.randrange(1, 6)):
            at = self.rng.randrange(len(body) + 1)
            to = min(len(body), at + self.rng.randrange(12))
            match self.rng.randrange(5):
                case 0:
                    del body[at:to]
                case 1:
                    body[at:at] = body[at:to]
                case 2:
                    body[at:to] = self.rng.randbytes(to - at)
                case 3:
                    body[at:at] = self.rng.choice(_PIECES)
                case _:
                    del body[max(at, len(body) // 2) :]
        return bytes(body)

    def json(self, sane: Sequence[Any]) -> bytes:
        """One of the values as JSON, sane, bent or broken."""
        value = self.bent(self.rng.choice(sane), self.rng.choice((0.0, 0.05, 0.15, 0.5)))
        body = json.dumps(value, ensure_ascii=self.rng.random() < 0.5).encode(errors="surrogatepass")
        return self.broken(body) if self.rng.random() < 0.4 else body


_RANGES: Sequence[Callable[[Random], int]] = (
    lambda rng: rng.randrange(0x80),
    lambda rng: rng.randrange(0x20, 0x7F),
    lambda rng: rng.randrange(0x800),
    lambda rng: rng.randrange(0x110000),
)
