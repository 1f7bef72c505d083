"""Requests and replies as values, and how a reply is delivered over the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request. Path and query are percent-encoded as received; names of headers are in lower case."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Whole:
    """The whole body, at once."""


@dataclass(frozen=True, slots=True)
class Trickle:
    """The whole body, in pieces over `lasts` microseconds."""

    lasts: int


@dataclass(frozen=True, slots=True)
class Cut:
    """The full length is announced, but the connection breaks after `after_bytes` bytes of the body."""

    after_bytes: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset before any answer."""


@dataclass(frozen=True, slots=True)
class Silent:
    """No answer is ever sent, and the connection stays open."""


@dataclass(frozen=True, slots=True)
class Endless:
    """The body is followed by spaces until the client disconnects."""


Delivery = Whole | Trickle | Cut | Reset | Silent | Endless


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer, to be sent `delay` microseconds after the request was received."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delay: int = 0
    delivery: Delivery = field(default_factory=Whole)

    def header(self, name: str) -> str | None:
        """Return the value of a header, or None; case of the name is ignored."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)
