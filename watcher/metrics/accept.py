"""What a scraper accepts: the format by `Accept`, the packing by `Accept-Encoding` (RFC 9110, section 12.5)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

_QUALITY = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
# Other schemes would write even our names, which need none, differently; the answer says which one is used.
_ESCAPINGS = frozenset({"allow-utf-8", "underscores"})
_OPEN_METRICS = "application/openmetrics-text"
_TEXT = "text/plain"

_Offer: TypeAlias = tuple[str, Mapping[str, str], float]


def accepted_format(accept: str) -> str:
    """The format that is liked best and that we can write, as prometheus-client wants it told; empty for plain text.

    Where two are liked equally the first one goes; where none can be written, plain text.
    """
    best, liked = "", 0.0
    for name, parameters, quality in _offers(accept):
        found = _format(name, parameters)
        if found is not None and quality > liked:
            best, liked = found, quality
    return best


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether the scraper takes gzip: `q=0` refuses, and what is named goes before `*`."""
    taken = {name: quality > 0 for name, _, quality in _offers(accept_encoding)}
    return taken.get("gzip", taken.get("*", False))


def _offers(header: str) -> Iterator[_Offer]:
    """Each name with its parameters and its quality, which is 0 where it is none."""
    for part in header.split(","):
        name, *given = (piece.strip() for piece in part.split(";"))
        pairs = (piece.partition("=") for piece in given)
        parameters = {key.strip().lower(): value.strip().strip('"') for key, _, value in pairs}
        quality = parameters.get("q", "1")
        yield name.lower(), parameters, float(quality) if _QUALITY.fullmatch(quality) else 0.0


def _format(name: str, parameters: Mapping[str, str]) -> str | None:
    version = parameters.get("version")
    escaping = parameters.get("escaping")
    suffix = f";escaping={escaping}" if escaping in _ESCAPINGS else ""
    if name == _OPEN_METRICS and version in {None, "1.0.0"}:
        return name if version is None else f"{name};version={version}{suffix}"
    if name == _TEXT and version == "1.0.0":
        return f"{name};version={version}{suffix}"
    if name in {"*/*", "text/*"} or (name == _TEXT and version in {None, "0.0.4"}):
        return ""
    return None
