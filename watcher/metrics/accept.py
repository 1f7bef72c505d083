"""What a scraper accepts: the format by `Accept`, the compression by `Accept-Encoding` (RFC 9110, section 12.5)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

# `float` alone would also accept "inf", which beats every other offer.
_QUALITY = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
# Our names need no escaping, but the scheme `dots` doubles each underscore, so this scraper alone would store other
# names. A scheme that is not listed here is dropped. The content type then states the default.
_ESCAPINGS = frozenset({"allow-utf-8", "underscores"})
_OPEN_METRICS = "application/openmetrics-text"
_TEXT = "text/plain"

_Offer: TypeAlias = tuple[str, Mapping[str, str], float]


def accepted_format(accept: str) -> str:
    """The preferred format that can be written, in the form that `choose_encoder` expects; empty for plain text.

    Of equally preferred formats it is the first. If no format in the header can be written, it is plain text.
    """
    # prometheus-client takes the first format that it knows and ignores `q`. So it is given only the chosen one.
    best, liked = "", 0.0
    for name, parameters, quality in _offers(accept):
        found = _format(name, parameters)
        if found is not None and quality > liked:
            best, liked = found, quality
    return best


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether the scraper accepts gzip: `q=0` refuses it, and an entry for gzip takes precedence over `*`."""
    # The function of prometheus-client for this ignores `q=0`: a refusal of gzip would be answered with gzip.
    taken = {name: quality > 0 for name, _, quality in _offers(accept_encoding)}
    return taken.get("gzip", taken.get("*", False))


def _offers(header: str) -> Iterator[_Offer]:
    """Each name with its parameters and its quality. A quality that is not valid counts as 0."""
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
    # prometheus-client copies any OpenMetrics version from 1.0.0 on into the content type, even an unknown one.
    if name == _OPEN_METRICS and version in {None, "1.0.0"}:
        return name if version is None else f"{name};version={version}{suffix}"
    if name == _TEXT and version == "1.0.0":
        return f"{name};version={version}{suffix}"
    if name in {"*/*", "text/*"} or (name == _TEXT and version in {None, "0.0.4"}):
        return ""
    # Not "": the quality of a format that cannot be written must not count for plain text.
    return None
