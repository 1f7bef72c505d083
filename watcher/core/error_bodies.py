"""The forms of upstream's error bodies, distinguished from those of proxies, gateways and frameworks.

    {"errors": [{"code": 20404, "message": "…", "infoUrl": "…", "context": "null"}, …]}
    {"code": 20404, "message": "…", "more_info": "…", "status": 404}      also without more_info, and with code = status
    {"type": "…", "title": "…", "status": 404, "code": 20404}             RFC 9457, also with a list of errors

Others answer in JSON, too, but without a number as `code` beside a text, or without a `status` that is the HTTP status.
The first number found is the error's. Sources: Twilio's pages, its library, and answers that public programs recorded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from watcher.core.model import Value

_NUMBER = re.compile(r"[0-9]{1,6}")
_TEXTS = ("message", "title", "detail")
_UNREADABLE = (msgspec.DecodeError, RecursionError, ValueError, OverflowError)

_anything = msgspec.json.Decoder()


class ErrorBody(Value, frozen=True):
    """Twilio's error number in a body, and whether the body has one of upstream's forms."""

    number: int | None = None
    is_upstreams: bool = False


def read_error(body: bytes, code: int) -> ErrorBody:
    """The error in the body of an answer with the HTTP status `code`. Empty for HTML and the like. Never raises."""
    try:
        found = _anything.decode(body)
    except _UNREADABLE:
        return ErrorBody()
    if not isinstance(found, dict):
        return ErrorBody()
    errors = found.get("errors")
    items = [item for item in errors if isinstance(item, dict)] if isinstance(errors, list) else []
    numbers = [number for item in (*items, found) if (number := _number(item)) is not None]
    if not numbers:
        return ErrorBody()
    # A number alone proves nothing, because frameworks write a `code` as well. In a list it needs a text beside it.
    # Outside of a list it needs the HTTP status, too: `{"code": 404, "message": …}` may be of any framework.
    is_listed = any(_number(item) is not None and _has_text(item) for item in items)
    is_whole = found.get("status") == code and _has_text(found)
    return ErrorBody(numbers[0], (is_listed and found.get("status", code) == code) or is_whole)


def _number(item: Mapping[str, Any]) -> int | None:
    code = item.get("code")
    if isinstance(code, str) and _NUMBER.fullmatch(code):
        code = int(code)
    # In Python, True is an int.
    return code if isinstance(code, int) and not isinstance(code, bool) and 0 < code < 10**6 else None


def _has_text(item: Mapping[str, Any]) -> bool:
    return any(isinstance(item.get(name), str) for name in _TEXTS)
