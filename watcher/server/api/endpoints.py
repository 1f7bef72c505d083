"""The table of all endpoints: the routes and the OpenAPI document are built from it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from watcher.intake import TrackRequest
from watcher.server.api import handlers
from watcher.server.api.app_context import AppContext, Side
from watcher.server.api.query import ACCOUNT, AFTER, LIMIT, SINCE, STATUS, Parameter
from watcher.server.problems import PROBLEM_JSON, ProblemDetails
from watcher.server.views import OperationDetail, OperationPage, Overview, Registered, Reloaded, Untracking

Handler: TypeAlias = Callable[[AppContext, Side, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseSpec:
    """What one status means, and its body: a type encoded as JSON, or text of the media types."""

    words: str
    body: Any = str
    media: Sequence[str] = ("application/json",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiEndpoint:
    """One method of one path. `side` is ADMIN if web does not have it."""

    method: str
    path: str
    handler: Handler
    words: str
    answers: Mapping[int, ResponseSpec]
    side: Side = Side.WEB
    parameters: Sequence[Parameter] = ()
    body: Any = None
    has_id: bool = field(default=False)


def _problem(words: str) -> ResponseSpec:
    return ResponseSpec(words=words, body=ProblemDetails, media=(PROBLEM_JSON,))


def _text(words: str, *media: str) -> ResponseSpec:
    return ResponseSpec(words=words, media=media)


_BAD_QUERY = _problem("A parameter is bad or unknown. Each one is named.")
_BAD_ID = _problem("The id is not valid, or a parameter is bad. Each one is named.")
_STORE = _problem("The store cannot be used at the moment. Retry-After says when to try again.")
_UNKNOWN = _problem("No account tracks this operation or still shows it.")
_SEVERAL = _problem("The operation is tracked under several accounts. Name one.")

ENDPOINTS: Sequence[ApiEndpoint] = (
    ApiEndpoint(
        method="GET",
        path="/",
        handler=handlers.get_page,
        words="The status page for people.",
        answers={200: _text("The tracked operations, and links to the other endpoints.", "text/html")},
    ),
    ApiEndpoint(
        method="GET",
        path="/metrics",
        handler=handlers.get_metrics,
        words="The scrape: text format or OpenMetrics by Accept, gzip by Accept-Encoding.",
        answers={200: _text("The metrics.", "text/plain", "application/openmetrics-text")},
    ),
    ApiEndpoint(
        method="GET",
        path="/-/healthy",
        handler=handlers.get_healthy,
        words="Whether the account loops make progress. It does not depend on the upstream API, the disk or the store.",
        answers={
            200: _text("All loops make progress.", "text/plain"),
            503: _problem("Loops are overdue. Each one is named."),
        },
    ),
    ApiEndpoint(
        method="GET",
        path="/-/ready",
        handler=handlers.get_ready,
        words="Answers once the configuration was read and the listeners work; never depends on the upstream API.",
        answers={200: _text("Ready.", "text/plain")},
    ),
    ApiEndpoint(
        method="GET",
        path="/api/v1/overview",
        handler=handlers.get_overview,
        words="The data of the status page: accounts, and the operations with series of their own, at most 1,000. "
        "With `since`, only the operations that changed.",
        parameters=(SINCE,),
        answers={200: ResponseSpec(words="The overview.", body=Overview), 400: _BAD_QUERY},
    ),
    ApiEndpoint(
        method="GET",
        path="/api/v1/operations",
        handler=handlers.list_operations,
        words="Tracked and recently finished operations, ordered by account and id, in pages. "
        "Stats are those of the last poll for operations with series of their own, else at most a minute older.",
        parameters=(STATUS, ACCOUNT, LIMIT, AFTER),
        answers={200: ResponseSpec(words="One page.", body=OperationPage), 400: _BAD_QUERY, 503: _STORE},
    ),
    ApiEndpoint(
        method="POST",
        path="/api/v1/operations",
        handler=handlers.post_operations,
        side=Side.ADMIN,
        words="Track one operation or a list of them, all or none. Idempotent: labels are merged, given keys win. "
        "Durable before the answer. An operation that has ended is not tracked again; its outcome is returned.",
        body=TrackRequest,
        answers={
            200: ResponseSpec(words="No operation was new.", body=Registered),
            201: ResponseSpec(words="At least one operation was new.", body=Registered),
            400: _problem("The body is malformed, or entries are bad. Each is named, and no entry was stored."),
            409: _problem(
                "Entries are tracked under another account, or would have too many labels together with their present "
                "ones. Each such entry is named, and no entry was stored."
            ),
            413: _problem("The body is larger than 4 MiB."),
            415: _problem("The body is not application/json."),
            503: _STORE,
        },
    ),
    ApiEndpoint(
        method="GET",
        path="/api/v1/operations/{id}",
        handler=handlers.get_operation,
        has_id=True,
        words="One operation with its history, and when, how and why it is polled next.",
        parameters=(ACCOUNT,),
        answers={
            200: ResponseSpec(words="The operation.", body=OperationDetail),
            400: _BAD_ID,
            404: _UNKNOWN,
            409: _SEVERAL,
            503: _STORE,
        },
    ),
    ApiEndpoint(
        method="DELETE",
        path="/api/v1/operations/{id}",
        handler=handlers.delete_operation,
        has_id=True,
        side=Side.ADMIN,
        words="Untrack one operation: its series leave at once, nothing is counted, discovery does not bring it back.",
        parameters=(ACCOUNT,),
        answers={
            200: ResponseSpec(words="The operation is not tracked any more.", body=Untracking),
            400: _BAD_ID,
            404: _UNKNOWN,
            409: _SEVERAL,
            503: _STORE,
        },
    ),
    ApiEndpoint(
        method="POST",
        path="/-/reload",
        handler=handlers.post_reload,
        side=Side.ADMIN,
        words="Reload the configuration, all or nothing.",
        answers={
            200: ResponseSpec(words="The new configuration is in force.", body=Reloaded),
            400: _problem("The new configuration is bad. Each reason is named, and the old one stays in force."),
        },
    ),
)


def endpoints_of(side: Side) -> Sequence[ApiEndpoint]:
    """Return the endpoints of a listener. Admin has all endpoints of web too."""
    return [endpoint for endpoint in ENDPOINTS if side is Side.ADMIN or endpoint.side is Side.WEB]
