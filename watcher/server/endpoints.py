"""The one table of what the listeners answer: the routes and the OpenAPI document are both made from it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from watcher.intake import TrackRequest
from watcher.server import handlers
from watcher.server.app_context import AppContext, Side
from watcher.server.problems import PROBLEM_JSON, ProblemDetails
from watcher.server.query import ACCOUNT, AFTER, LIMIT, SINCE, STATUS, Parameter
from watcher.server.views import OperationDetail, OperationPage, Overview, Registered, Reloaded, Untracking

Handler: TypeAlias = Callable[[AppContext, Side, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseSpec:
    """What one status means, and what comes with it: a type in JSON, or text of some media types."""

    words: str
    body: Any = str
    media: Sequence[str] = ("application/json",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiEndpoint:
    """One method of one path. `side`: ADMIN where web does not have it."""

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


_BAD_QUERY = _problem("A parameter is bad or unknown; each is named.")
_BAD_ID = _problem("What should be an id is none, or a parameter is bad; each is named.")
_STORE = _problem("The store cannot be used at the moment; Retry-After says when to ask again.")
_UNKNOWN = _problem("No account follows such an operation, or shows it still.")
_SEVERAL = _problem("It is followed under several accounts: name one.")

ENDPOINTS: Sequence[ApiEndpoint] = (
    ApiEndpoint(
        method="GET",
        path="/",
        handler=handlers.get_page,
        words="The status page for people.",
        answers={200: _text("What is followed, and links to everything here.", "text/html")},
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
        words="Whether the account loops make progress; nothing to do with the upstream API, the disk or the store.",
        answers={200: _text("They do.", "text/plain"), 503: _problem("Some are overdue; each is named.")},
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
        words="What the status page shows: accounts, and the operations with series of their own, at most 1,000; "
        "with since, only those that changed.",
        parameters=(SINCE,),
        answers={200: ResponseSpec(words="What is to be seen.", body=Overview), 400: _BAD_QUERY},
    ),
    ApiEndpoint(
        method="GET",
        path="/api/v1/operations",
        handler=handlers.list_operations,
        words="What is followed and lately finished, in the order of account and id, a page at a time. "
        "Stats are as of the last look for operations with series of their own, else at most a minute older.",
        parameters=(STATUS, ACCOUNT, LIMIT, AFTER),
        answers={200: ResponseSpec(words="One page.", body=OperationPage), 400: _BAD_QUERY, 503: _STORE},
    ),
    ApiEndpoint(
        method="POST",
        path="/api/v1/operations",
        handler=handlers.post_operations,
        side=Side.ADMIN,
        words="Follow one operation or a list of them, all or none. Idempotent: labels merge, given keys win; "
        "durable before the answer; what has ended answers its outcome and is not followed again.",
        body=TrackRequest,
        answers={
            200: ResponseSpec(words="None was new.", body=Registered),
            201: ResponseSpec(words="At least one was new.", body=Registered),
            400: _problem("The body is malformed, or entries are bad: each is named, and none was kept."),
            409: _problem(
                "Entries are followed under another account, or would have too many labels together with those "
                "that they have: each is named, and none was kept."
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
        words="One operation with its history, and when, how and why it is looked at next.",
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
        words="Stop following one: its series leave at once, nothing is counted, discovery does not bring it back.",
        parameters=(ACCOUNT,),
        answers={
            200: ResponseSpec(words="It is followed no longer.", body=Untracking),
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
        words="Read the configuration anew, all or nothing.",
        answers={
            200: ResponseSpec(words="The new configuration is in force.", body=Reloaded),
            400: _problem("It is bad, each reason is named; the old one stays in force."),
        },
    ),
)


def endpoints_of(side: Side) -> Sequence[ApiEndpoint]:
    """What a listener answers: admin answers all that web answers too."""
    return [endpoint for endpoint in ENDPOINTS if side is Side.ADMIN or endpoint.side is Side.WEB]
