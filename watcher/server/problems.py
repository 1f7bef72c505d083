"""Errors as `application/problem+json` (RFC 9457), and the table that maps each error to its problem.

`type` is `about:blank` if the status alone is enough, else a stable name by which programs distinguish the cases.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from watcher.core.errors import StoreRefused, StoreUnusable
from watcher.intake import (
    EntriesRefusedError,
    EntryError,
    MalformedError,
    NotAnIdError,
    NotFollowedError,
    SeveralAccountsError,
)

PROBLEM_JSON = "application/problem+json"
STORE_RETRY_AFTER = 5  # seconds

_NAMES = "urn:operation-watcher:problem:"
_STORE_DETAIL = (
    "the store cannot be used at the moment: nothing was stored, try again later; "
    "see operation_watcher_store_usable and the event store.unusable"
)


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why the request failed (RFC 9457). `errors` lists every fault if there can be several."""

    type: str
    title: str
    status: int
    detail: str = ""
    errors: tuple[EntryError, ...] = ()


class ProblemError(Exception):
    """Raised by a handler to answer with a problem."""

    def __init__(self, problem: ProblemDetails, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.headers = headers


def problem(status: int, detail: str = "", *, name: str = "", errors: Sequence[EntryError] = ()) -> ProblemDetails:
    """Return a problem with the title of the status. `name` is the last part of its type."""
    return ProblemDetails(
        type=_NAMES + name if name else "about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        errors=tuple(errors),
    )


def answer(what: ProblemDetails, headers: Mapping[str, str] | None = None) -> Response:
    """Return the problem as a response."""
    return Response(msgspec.json.encode(what), what.status, headers, PROBLEM_JSON)


def from_error(exc: Exception) -> tuple[ProblemDetails, Mapping[str, str] | None]:
    """Return the problem and headers for an error. Details of an unexpected error are not shown to the client."""
    match exc:
        case ProblemError():
            return exc.problem, exc.headers
        case HTTPException(status_code=405):
            allowed = ", ".join(sorted((exc.headers or {}).get("Allow", "").split(", ")))
            return problem(405, f"allowed here: {allowed}"), {"Allow": allowed}
        case HTTPException():
            return problem(exc.status_code), exc.headers
        case EntriesRefusedError():
            status = 409 if exc.is_conflict else 400
            return problem(status, str(exc), name="entries-refused", errors=exc.errors), None
        case StoreUnusable() | StoreRefused():
            return problem(503, _STORE_DETAIL, name="store-unusable"), {"Retry-After": str(STORE_RETRY_AFTER)}
    status, name = next((PLAIN[kind] for kind in PLAIN if isinstance(exc, kind)), (500, ""))
    return problem(status, str(exc) if name else "this is a fault of the watcher; see its log", name=name), None


PLAIN: Mapping[type[Exception], tuple[int, str]] = {
    MalformedError: (400, "malformed"),
    NotAnIdError: (400, "not-an-id"),
    NotFollowedError: (404, "not-followed"),
    SeveralAccountsError: (409, "several-accounts"),
}
"""Errors whose message is the detail of the problem: their status, and the name of the problem."""

_TRANSLATED: Sequence[type[Exception]] = (
    ProblemError,
    HTTPException,
    EntriesRefusedError,
    StoreUnusable,
    StoreRefused,
    *PLAIN,
    Exception,
)


async def handle(_: Request, exc: Exception) -> Response:
    """Return the answer to an exception of a handler."""
    return answer(*from_error(exc))


def handlers() -> dict[Any, Callable[[Request, Exception], Awaitable[Response]]]:
    """Return the exception handlers for Starlette."""
    return dict.fromkeys(_TRANSLATED, handle)
