"""The query parameters of the API, each defined once: how it is read, checked and described."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from watcher.core.model import Status
from watcher.intake import ID_PATTERN, EntryError, quoted
from watcher.server.problems import ProblemError, problem

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000

_STATUSES = tuple(status.value for status in Status)
_CURSOR = re.compile("([A-Za-z0-9][A-Za-z0-9_.-]{0,63}):(" + ID_PATTERN[1:-1] + ")")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One query parameter. `pattern` matches valid values; `wanted` describes them in words, `schema` for programs."""

    name: str
    pattern: re.Pattern[str]
    wanted: str
    schema: Mapping[str, Any]
    repeats: bool = False


ACCOUNT = Parameter(
    name="account",
    pattern=re.compile(r".+", re.DOTALL),
    wanted="the name of an account",
    schema={"type": "string"},
)
STATUS = Parameter(
    name="status",
    pattern=re.compile("|".join(_STATUSES)),
    wanted="one of " + ", ".join(_STATUSES),
    schema={"type": "array", "items": {"enum": list(_STATUSES)}},
    repeats=True,
)
LIMIT = Parameter(
    name="limit",
    pattern=re.compile("[1-9][0-9]{0,2}|1000"),
    wanted=f"a whole number from 1 to {MAX_LIMIT}",
    schema={"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
)
AFTER = Parameter(
    name="after",
    pattern=_CURSOR,
    wanted="the `next` of an earlier page",
    schema={"type": "string", "pattern": f"^{_CURSOR.pattern}$"},
)
SINCE = Parameter(
    name="since",
    pattern=re.compile("[0-9a-f]{1,16}-[0-9]{1,16}"),
    wanted="the `bookmark` of an earlier answer",
    schema={"type": "string", "pattern": "^[0-9a-f]{1,16}-[0-9]{1,16}$"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The parameters of a request, parsed."""

    account: str | None = None
    statuses: tuple[str, ...] = ()
    after: tuple[str, str] | None = None
    limit: int = DEFAULT_LIMIT
    since: str | None = None


def read_query(request: Request, parameters: Sequence[Parameter], accounts: Sequence[str]) -> Query:
    """Return the query of the request. Raises ProblemError, which names every bad, unknown or repeated parameter."""
    given: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        given.setdefault(name, []).append(value)
    known = {parameter.name: parameter for parameter in parameters}
    errors = [
        EntryError(parameter=name[:_MOST_SHOWN], why=why)
        for name, values in given.items()
        if (why := _fault(known.get(name), values, accounts, known))
    ]
    if errors:
        raise ProblemError(problem(400, "bad query parameters", name="parameters", errors=errors))
    return Query(
        account=given.get("account", [None])[0],
        statuses=tuple(given.get("status", ())),
        after=read_cursor(given["after"][0]) if "after" in given else None,
        limit=int(given["limit"][0]) if "limit" in given else DEFAULT_LIMIT,
        since=given.get("since", [None])[0],
    )


def cursor(account: str, operation_id: str) -> str:
    """Return the position in the order of account and id, for the `after` of the next page."""
    return f"{account}:{operation_id}"


def read_cursor(text: str) -> tuple[str, str]:
    """Return account and id of a cursor that matches the pattern."""
    account, _, operation_id = text.rpartition(":")
    return account, operation_id


_MOST_SHOWN = 60


def _fault(
    parameter: Parameter | None, values: Sequence[str], accounts: Sequence[str], known: Mapping[str, Parameter]
) -> str | None:
    if parameter is None:
        return "unknown parameter; known: " + (", ".join(known) or "none")
    if len(values) > 1 and not parameter.repeats:
        return "given more than once"
    for value in values:
        if not parameter.pattern.fullmatch(value):
            return f"expected {parameter.wanted}, got {quoted(value)}"
        if parameter is ACCOUNT and value not in accounts:
            return f"unknown account {quoted(value)}; configured: {', '.join(map(quoted, accounts)) or 'none'}"
    return None
