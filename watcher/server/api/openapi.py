"""The OpenAPI 3.1 document of a listener, built from the table of endpoints and the types of bodies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from watcher.intake import ID_PATTERN, MAX_ENTRIES
from watcher.server.api.app_context import Side
from watcher.server.api.endpoints import ApiEndpoint, ResponseSpec
from watcher.server.api.guard import OPEN_PATHS
from watcher.server.api.query import ACCOUNT, Parameter
from watcher.server.problems import PROBLEM_JSON, ProblemDetails

PATH = "/openapi.json"

Json: TypeAlias = dict[str, Any]

_REFERENCE = "#/components/schemas/{name}"
_TITLES: Mapping[Side, str] = {Side.WEB: "Operation watcher: web", Side.ADMIN: "Operation watcher: admin"}
_READING = frozenset({"GET", "HEAD"})
_UNSUPPORTED = 415
_GUARDED: Mapping[int, str] = {
    403: "The request comes from a page of another origin.",
    415: "The content type is not application/json.",
    421: "The Host header is not allowed on this listener.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityScheme:
    """The authentication of a listener: name and scheme for OpenAPI, and the meaning of 401."""

    name: str
    scheme: str
    words: str


BEARER = SecurityScheme(name="token", scheme="bearer", words="The bearer token is missing or wrong.")
BASIC = SecurityScheme(name="password", scheme="basic", words="User and password are missing or wrong.")


def describe(
    side: Side, endpoints: Sequence[ApiEndpoint], *, accounts: Sequence[str], version: str, lock: SecurityScheme | None
) -> bytes:
    """Return the document as JSON, for the accounts and the authentication that are configured at the moment."""
    types = {_key(kind): kind for endpoint in endpoints for kind in _types(endpoint)}
    schemas, components = msgspec.json.schema_components(types.values(), ref_template=_REFERENCE)
    schema_of = dict(zip(types, schemas, strict=True))
    if "TrackRequest" in components:
        _name_accounts(components["TrackRequest"], accounts)
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": _TITLES[side], "version": version, "license": {"name": "MIT", "identifier": "MIT"}},
        "paths": {PATH: {method: _own_operation(method, lock=lock) for method in ("get", "head")}},
        "components": {"schemas": components},
    }
    if lock is not None:
        document["components"]["securitySchemes"] = {lock.name: {"type": "http", "scheme": lock.scheme}}
    for endpoint in endpoints:
        item = document["paths"].setdefault(endpoint.path, {})
        for method in (endpoint.method, "HEAD") if endpoint.method == "GET" else (endpoint.method,):
            item[method.lower()] = _operation(
                endpoint, method, side=side, accounts=accounts, schema_of=schema_of, lock=lock
            )
    return msgspec.json.encode(document)


def _types(endpoint: ApiEndpoint) -> Sequence[Any]:
    return [
        ProblemDetails,
        *([endpoint.body] if endpoint.body else []),
        *(answer.body for answer in endpoint.answers.values()),
    ]


def _key(kind: Any) -> str:
    return str(kind.__name__)


def _operation(
    endpoint: ApiEndpoint,
    method: str,
    *,
    side: Side,
    accounts: Sequence[str],
    schema_of: Mapping[str, Json],
    lock: SecurityScheme | None,
) -> Json:
    if endpoint.path in OPEN_PATHS:
        lock = None
    answers = {**_guard_answers(side, method, lock), **endpoint.answers}
    operation: Json = {
        "summary": endpoint.words,
        "operationId": f"{method.lower()}_{endpoint.handler.__name__}",
        "parameters": _parameters(endpoint, accounts),
        "responses": {str(status): _response(answers[status], method, schema_of) for status in sorted(answers)},
    }
    operation["responses"]["default"] = _response(_problem("Any other error."), method, schema_of)
    if endpoint.body is not None:
        one = schema_of[_key(endpoint.body)]
        several = {"type": "array", "items": one, "maxItems": MAX_ENTRIES}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"anyOf": [one, several]}}},
        }
    if lock is not None:
        operation["security"] = [{lock.name: []}]
    return operation


def _guard_answers(side: Side, method: str, lock: SecurityScheme | None) -> dict[int, ResponseSpec]:
    words = {} if lock is None else {401: lock.words}
    if side is Side.ADMIN:
        words |= {status: text for status, text in _GUARDED.items() if status != _UNSUPPORTED or method not in _READING}
    return {status: _problem(text) for status, text in words.items()}


def _own_operation(method: str, *, lock: SecurityScheme | None) -> Json:
    operation: Json = {
        "summary": "This document.",
        "operationId": f"{method}_openapi",
        "responses": {
            "200": {
                "description": "The OpenAPI document of this listener.",
                **({"content": {"application/json": {"schema": {"type": "object"}}}} if method == "get" else {}),
            },
            "default": _response(
                _problem("Any error."),
                method.upper(),
                {"ProblemDetails": {"$ref": _REFERENCE.format(name="ProblemDetails")}},
            ),
        },
    }
    if lock is not None:
        operation["security"] = [{lock.name: []}]
    return operation


def _parameters(endpoint: ApiEndpoint, accounts: Sequence[str]) -> list[Json]:
    own: list[Json] = []
    if endpoint.has_id:
        own = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string", "pattern": ID_PATTERN}}]
    return own + [
        {
            "name": parameter.name,
            "in": "query",
            "required": False,
            "description": parameter.wanted,
            "schema": _parameter_schema(parameter, accounts),
        }
        for parameter in endpoint.parameters
    ]


def _parameter_schema(parameter: Parameter, accounts: Sequence[str]) -> Json:
    if parameter is ACCOUNT and accounts:
        return {**parameter.schema, "enum": [*accounts]}
    return dict(parameter.schema)


def _response(answer: ResponseSpec, method: str, schema_of: Mapping[str, Json]) -> Json:
    if method == "HEAD":
        return {"description": answer.words}
    schema = schema_of[_key(answer.body)]
    return {"description": answer.words, "content": {media: {"schema": schema} for media in answer.media}}


def _problem(words: str) -> ResponseSpec:
    return ResponseSpec(words=words, body=ProblemDetails, media=(PROBLEM_JSON,))


def _name_accounts(handed: Json, accounts: Sequence[str]) -> None:
    """Allow only the configured accounts in an entry; it may be left out only if there is a single one."""
    if not accounts:
        return
    if len(accounts) == 1:
        handed["properties"]["account"] = {"enum": [*accounts, None], "default": None}
    else:
        handed["properties"]["account"] = {"enum": [*accounts]}
        handed["required"] = [*handed["required"], "account"]
