"""Bodies of error answers, in the shapes of the API, its gateway and a proxy."""

import msgspec

from watcher.simulator.fault_types import RetryAfterForm, Shape, UpstreamShape
from watcher.simulator.timestamps import SECOND, http_date

_CODES = {400: 20001, 401: 20003, 403: 70051, 404: 20404, 405: 20004, 429: 20429, 500: 20500, 503: 20503}
_MESSAGES = {
    400: "Bad request",
    401: "Authenticate",
    403: "Authorization failed",
    404: "The requested resource was not found",
    405: "Method not allowed",
    429: "Too many requests",
    500: "Internal server error",
    502: "Bad gateway",
    503: "Service unavailable",
    504: "Gateway timeout",
}


def error_body(status: int, *, shape: Shape = "errors", message: str | None = None) -> tuple[bytes, str]:
    """Return the body and its content type."""
    code = _CODES.get(status, status)
    text = message or _MESSAGES.get(status, "Error")
    if shape == "empty":
        return b"", "text/plain"
    if shape == "html":
        page = f"<html><head><title>{status} {text}</title></head><body><h1>{status} {text}</h1></body></html>\r\n"
        return page.encode(), "text/html"
    content_type = "application/problem+json" if shape.startswith("problem") else "application/json"
    return msgspec.json.encode(_written(shape, status, code, text)), content_type


def _written(shape: UpstreamShape, status: int, code: int, text: str) -> dict[str, object]:
    url = f"https://www.twilio.com/docs/errors/{code}"
    item = {"code": code, "message": text, "infoUrl": url, "context": "null"}
    problem = {"type": url, "title": text, "status": status}
    shapes: dict[UpstreamShape, dict[str, object]] = {
        "errors": {"errors": [item]},
        # The first item has no code, as an item about a field may.
        "several": {"errors": [{"message": "see the next one"}, item, item | {"code": 20001}]},
        "classic": {"code": code, "message": text, "more_info": url, "status": status},
        "bare": {"code": status, "message": text, "status": status},
        "problem": problem | {"code": code},
        "problem_errors": problem | {"errors": [{"code": code, "detail": text}]},
    }
    return shapes[shape]


def retry_after(form: RetryAfterForm, wait: int, now: int) -> tuple[tuple[str, str], ...]:
    """Return the header that asks to wait, in whole seconds rounded up; no header for the form none."""
    match form:
        case "none":
            return ()
        case "seconds":
            return (("Retry-After", str(-(-wait // SECOND))),)
        case "date":
            return (("Retry-After", http_date(now + wait + SECOND - 1)),)
        case "garbage":
            return (("Retry-After", "in a while"),)
