"""One exchange as values: what was asked, what is answered, and how the answer comes over the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request: the path and query as they came, still percent-encoded; names of headers in lower case."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Whole:
    """All of it, as it should be."""


@dataclass(frozen=True, slots=True)
class Trickle:
    """All of it, spread over so many microseconds."""

    lasts: int


@dataclass(frozen=True, slots=True)
class Cut:
    """The full length is announced, but the connection breaks after so many bytes of the body."""

    after_bytes: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection breaks before anything is answered."""


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing is ever answered, and the connection stays."""


@dataclass(frozen=True, slots=True)
class Endless:
    """The body is followed by blanks for as long as somebody listens."""


Delivery = Whole | Trickle | Cut | Reset | Silent | Endless


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer, to be sent `delay` microseconds after the request came."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delay: int = 0
    delivery: Delivery = field(default_factory=Whole)

    def header(self, name: str) -> str | None:
        """The value of a header, whatever the case of its name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)
