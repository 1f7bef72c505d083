"""The handler of each route. It answers from the `AppContext`, and decides nothing about operations."""

import asyncio
from codecs import BOM_UTF8
from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from watcher.core.model import Operation, rfc3339
from watcher.intake import EntryError
from watcher.server import page as status_page
from watcher.server.api.app_context import AppContext, Side
from watcher.server.api.guard import is_json
from watcher.server.api.query import ACCOUNT, AFTER, LIMIT, SINCE, STATUS, Query, cursor, read_query
from watcher.server.http import Scrape
from watcher.server.problems import ProblemError, problem
from watcher.server.views import (
    OperationPage,
    OperationView,
    Overview,
    Registered,
    Reloaded,
    Untracking,
    account_view,
    next_poll_view,
    operation_detail,
    operation_view,
    registration_view,
)
from watcher.store import RegistrationResult
from watcher.threads import NoThreadError

MAX_BODY = 4 * 1024 * 1024  # bytes

_AT_ONCE = 100  # operations converted before other tasks may run


async def get_metrics(app: AppContext, _: Side, request: Request) -> Response:
    """Answer a scrape; 503 if no thread is available to write it."""
    accept = ", ".join(request.headers.getlist("accept"))
    accept_encoding = ", ".join(request.headers.getlist("accept-encoding"))
    try:
        body, headers, token = await app.metrics(accept, accept_encoding)
    except NoThreadError as exc:
        raise ProblemError(problem(503, f"{exc.strerror}; try again", name="busy")) from exc
    return Scrape(body, headers, arrived=lambda: app.scraped(token))


async def get_healthy(app: AppContext, _: Side, __: Request) -> Response:
    """Answer whether the loops make progress."""
    overdue = app.healthy()
    if overdue:
        errors = [EntryError(why=f"{name} is overdue") for name in overdue]
        detail = "no progress in time: " + ", ".join(overdue)
        raise ProblemError(problem(503, detail, name="overdue", errors=errors))
    return PlainTextResponse("healthy\n")


async def get_ready(_: AppContext, __: Side, ___: Request) -> Response:
    """An answer means that the configuration was read and the listeners work: until then nothing answers."""
    return PlainTextResponse("ready\n")


async def get_page(app: AppContext, side: Side, request: Request) -> Response:
    """Answer with the status page."""
    visible = _visible(app, side)
    pieces: list[str] = []
    for piece in status_page.render(_delta_view(app, request).read(visible), visible, app.now(), app.version):
        pieces.append(piece)
        await asyncio.sleep(0)
    headers = {"Content-Security-Policy": status_page.POLICY}
    return Response("".join(pieces).encode(errors="replace"), 200, headers, "text/html; charset=utf-8")


async def get_overview(app: AppContext, side: Side, request: Request) -> Response:
    """Answer with the data of the status page, or the changes since the bookmark."""
    query = read_query(request, (SINCE,), ())
    visible = _visible(app, side)
    delta = _delta_view(app, request).read(visible, query.since)
    overview = Overview(
        as_of=rfc3339(app.now().at) or "",
        bookmark=delta.bookmark,
        whole=delta.is_whole,
        accounts=[account_view(snapshot) for snapshot in delta.snapshots],
        stats=delta.stats,
        more=delta.more,
        operations=await _views(delta.operations, visible),
        gone=[cursor(account, operation_id) for account, operation_id in delta.gone],
    )
    return _json(overview)


async def list_operations(app: AppContext, side: Side, request: Request) -> Response:
    """Answer with a page of the tracked and recently finished operations."""
    query = read_query(request, (STATUS, ACCOUNT, LIMIT, AFTER), app.accounts())
    rows = await _rows(app, query)
    more, rows = rows[query.limit :], rows[: query.limit]
    fresh = _LatestStats(app)
    views = await _views([fresh.of(row) for row in rows], _visible(app, side))
    return _json(OperationPage(operations=views, next=cursor(rows[-1].account, rows[-1].id) if more else None))


async def get_operation(app: AppContext, side: Side, request: Request) -> Response:
    """Answer with one operation, its history and its next poll."""
    operation_id, query = _one(app, request)
    stored = await app.intake.locate(operation_id, query.account)
    history = await app.store.history(stored.account, stored.id)
    next_poll = next_poll_view(app.next_poll(stored.account, stored.id), app.now())
    return _json(operation_detail(_LatestStats(app).of(stored), _visible(app, side), history, next_poll))


async def post_operations(app: AppContext, _: Side, request: Request) -> Response:
    """Track the operations in the body."""
    read_query(request, (), ())
    if not is_json(request.headers.get("content-type", "")):
        raise ProblemError(problem(415, "the content type must be application/json", name="content-type"))
    registrations = await app.intake.take((await _body(request)).removeprefix(BOM_UTF8))
    status = 201 if any(one.result is RegistrationResult.NEW for one in registrations) else 200
    return _json(Registered(operations=[registration_view(one) for one in registrations]), status)


async def delete_operation(app: AppContext, _: Side, request: Request) -> Response:
    """Stop tracking one operation."""
    operation_id, query = _one(app, request)
    operation = await app.intake.untrack(operation_id, query.account)
    return _json(Untracking(id=operation.id, account=operation.account))


async def post_reload(app: AppContext, _: Side, __: Request) -> Response:
    """Reload the configuration."""
    reasons = await app.reload()
    if reasons:
        errors = [EntryError(why=reason) for reason in reasons]
        raise ProblemError(problem(400, "the old configuration stays in force", name="reload-refused", errors=errors))
    return _json(Reloaded(reloaded=True))


class _LatestStats:
    """The newest stats: of the last poll in the snapshots, for operations with series; the store may lag a minute."""

    def __init__(self, app: AppContext) -> None:
        self._shown = {(one.account, one.id): one for snapshot in app.snapshots() for one in snapshot.shown}

    def of(self, stored: Operation) -> Operation:
        """Return the newer of both versions, with the stored labels: registration writes those to the store."""
        shown = self._shown.get((stored.account, stored.id))
        if shown is None or (shown.progressed_at or 0) <= (stored.progressed_at or 0):
            return stored
        return shown.with_(labels=stored.labels)


def _json(what: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(what), status, media_type="application/json")


def _delta_view(app: AppContext, request: Request) -> status_page.DeltaView:
    """Return the listener's own view, created at its first request."""
    state = request.app.state
    if not hasattr(state, "board"):
        state.board = status_page.DeltaView(app.snapshots, app.now)
    board: status_page.DeltaView = state.board
    return board


async def _views(operations: Sequence[Operation], visible: Sequence[str] | None) -> list[OperationView]:
    views = []
    for index, operation in enumerate(operations):
        views.append(operation_view(operation, visible))
        if index % _AT_ONCE == _AT_ONCE - 1:
            await asyncio.sleep(0)
    return views


def _visible(app: AppContext, side: Side) -> Sequence[str] | None:
    return None if side is Side.ADMIN else app.metric_labels()


def _one(app: AppContext, request: Request) -> tuple[str, Query]:
    operation_id: str = request.path_params["id"]
    if not operation_id:
        raise ProblemError(problem(404))
    return operation_id, read_query(request, (ACCOUNT,), app.accounts())


async def _rows(app: AppContext, query: Query) -> Sequence[Operation]:
    """Return the rows of the page and one more if there is one.

    Queried by account, since rows of a removed account must not be shown.
    """
    rows: list[Operation] = []
    for account in sorted(app.accounts()):
        is_requested = query.account in {None, account}
        if not is_requested or (query.after is not None and account < query.after[0]) or len(rows) > query.limit:
            continue
        limit = query.limit + 1 - len(rows)
        rows += await app.store.page(account=account, statuses=query.statuses, after=query.after, limit=limit)
    return rows


async def _body(request: Request) -> bytes:
    too_large = ProblemError(problem(413, f"the body may have at most {MAX_BODY} bytes", name="too-large"))
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_BODY:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise too_large
    return bytes(body)
