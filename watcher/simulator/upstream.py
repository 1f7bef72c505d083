"""The API as a function from a request and a time to an answer. It does no input or output and reads no clock.

The caller reports when a request begins and ends, so that upstream can count the requests under way:

    visit = upstream.began(ask, now)
    reply = upstream.answer(ask, now)
    ...
    upstream.ended(visit)
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from typing import Any, get_args
from urllib.parse import unquote

import msgspec

from watcher.simulator.corruption import corrupt
from watcher.simulator.credentials import Credentials
from watcher.simulator.error_bodies import error_body, retry_after
from watcher.simulator.fault_types import Fault, Shape, UpstreamShape
from watcher.simulator.faults import Faults, Struck, Target, deliver, replace
from watcher.simulator.ids import is_well_formed
from watcher.simulator.life import state
from watcher.simulator.limits import Throttle
from watcher.simulator.listing import BadQuery, make_token, parse_query, view
from watcher.simulator.messages import Cut, Endless, Reply, Request, Reset, Silent
from watcher.simulator.request_log import Entry, RequestLog
from watcher.simulator.scenario import Account, Limits, Scenario
from watcher.simulator.send_endpoint import BadSend, read_send
from watcher.simulator.timestamps import SECOND, http_date
from watcher.simulator.world import World

BASE_PATH = "/v1"
PREVIEW_PATH = "/preview"
"""A second base path with the same endpoints, as upstream has it."""

_SENDS = frozenset(f"{base}/PushNotifications" for base in (BASE_PATH, PREVIEW_PATH))
_OPERATIONS = frozenset(f"{sends}/Operations" for sends in _SENDS)
_SHAPES: tuple[Shape, ...] = get_args(UpstreamShape)
_TOO_MANY = 429
_UNAVAILABLE = 503


@dataclass(frozen=True, slots=True)
class Visit:
    """A request under way."""

    account_id: str | None


class Upstream:
    """A simulated API with its operations, from `started_at` (microseconds since 1970) on."""

    def __init__(self, scenario: Scenario, started_at: int) -> None:
        self.world = World(scenario, started_at)
        self.ledger = RequestLog()
        self.accounts = scenario.accounts
        self._scenario = scenario
        self._rng = random.Random(f"{scenario.seed} answers")  # noqa: S311 - repeatable, nothing secret
        self._faults = Faults(scenario.faults, in_force_at=started_at, rng=self._rng)
        self._credentials = Credentials(scenario.accounts)
        # One second of the client, in the microseconds of the simulated clock.
        self._second = round(SECOND * scenario.clock.speed)
        self._throttle = Throttle(scenario.limits, second=self._second)
        self._tokens = 0
        self._errors = 0

    def began(self, ask: Request, _now: int) -> Visit:
        """Count the request as under way."""
        account = self._credentials.account(ask.headers.get("authorization"))
        if account is None:
            return Visit(None)
        under_way = self._throttle.under_way
        under_way[account.account_id] += 1
        self.ledger.saw_concurrent(account.account_id, under_way[account.account_id])
        return Visit(account.account_id)

    def ended(self, visit: Visit) -> None:
        """Count the request as ended."""
        if visit.account_id is not None:
            self._throttle.under_way[visit.account_id] -= 1

    def answer(self, ask: Request, now: int) -> Reply:
        """Return the answer to a request received at `now`."""
        self.world.advance(now)
        account = self._credentials.account(ask.headers.get("authorization"))
        target = _target(ask, account)
        struck = self._faults.strike(target, now) if target.endpoint != "other" else Struck()
        reply = self._refuse(account, struck, now) or self._grant(ask, target, struck, now)
        reply = deliver(self._with_usual_headers(reply, now), struck, now)
        self._note(target, reply, now)
        return reply

    def set_faults(self, faults: Sequence[Fault], now: int) -> None:
        """Replace the faults; their `from` and `until` count from now."""
        self._faults = Faults(faults, in_force_at=now, rng=self._rng)

    def set_accounts(self, accounts: Sequence[Account]) -> None:
        """Replace the credentials of the given accounts; other accounts keep theirs."""
        new = {account.account_id: account for account in accounts}
        unknown = new.keys() - {account.account_id for account in self.accounts}
        if unknown:
            raise ValueError(f"unknown accounts: {', '.join(sorted(unknown))}")
        self.accounts = tuple(new.get(account.account_id, account) for account in self.accounts)
        self._credentials = Credentials(self.accounts)

    def set_limits(self, limits: Limits) -> None:
        """Replace the limits."""
        self._throttle.limits = limits

    def _refuse(self, account: Account | None, struck: Struck, now: int) -> Reply | None:
        if struck.replacing is not None:
            return replace(struck.replacing, now)
        if account is None:
            return _denied(401, ("WWW-Authenticate", 'Basic realm="Twilio API"'))
        if account.forbidden:
            return _denied(403)
        if self._throttle.refuses(account.account_id, now):
            limits = self._throttle.limits
            wait = retry_after(limits.retry_after, limits.retry_after_for.draw(self._rng), now)
            return self._error(_TOO_MANY, *wait)
        return None

    def _grant(self, ask: Request, target: Target, struck: Struck, now: int) -> Reply:
        match target.endpoint, ask.method:
            case "fetch", "GET":
                return self._fetch(target, struck, now)
            case "list", "GET":
                return self._list(ask, target.account_id or "", struck, now)
            case "send", "POST":
                return self._send(ask, target.account_id or "", now)
            case "other", _:
                return self._error(404)
            case _:
                return self._error(405)

    def _fetch(self, target: Target, struck: Struck, now: int) -> Reply:
        operation_id = target.operation_id or ""
        life = self.world.find(operation_id)
        if life is None and not is_well_formed(operation_id):
            return self._error(400, message="invalid operationId")
        if struck.of("forbidden") is not None:
            return _denied(403)
        stale, invisible = struck.of("stale"), struck.of("invisible")
        then = now - (stale.waits(5 * SECOND) if stale is not None else 0)
        visible = min(then, now - (invisible.waits(5 * SECOND) if invisible is not None else 0))
        if life is None or life.account_id != target.account_id or life.created_at > visible:
            return self._error(404)
        record = state(life, then)
        if not struck.corruption:
            return _json(200, record)
        return _json(200, corrupt([record], struck.corruption, now=now, rng=self._rng)[0])

    def _list(self, ask: Request, account_id: str, struck: Struck, now: int) -> Reply:
        try:
            query = parse_query(ask.query, account_id)
        except BadQuery as error:
            return self._error(400, message=str(error))
        if query.token is not None and struck.of("stale_token") is not None:
            return self._error(400, message="pageToken is no longer valid")
        paging = self._scenario.paging
        hidden = self._faults.forbidden(account_id, now)
        page = view(self.world, query, struck, newest_first=paging.newest_first, now=now, hidden=hidden)
        this = query.token or self._token(query.digest, query.start)
        following = self._token(query.digest, page.next_start) if page.has_next else None
        if struck.of("repeated_token") is not None:
            following = this
        pagination: dict[str, str | None] = {"next": following, "self": this}
        if following is None and paging.end == "absent":
            del pagination["next"]
        elif following is None and paging.end == "empty":
            pagination["next"] = ""
        rows: list[Any] = list(page.records)
        if struck.corruption:
            rows = corrupt(page.records, struck.corruption, now=now, rng=self._rng)
        return _json(200, {"operations": rows, "pagination": pagination})

    def _send(self, ask: Request, account_id: str, now: int) -> Reply:
        try:
            wanted = read_send(ask.body)
        except BadSend as error:
            return self._error(400, message=str(error))
        operation_id = self.world.send(account_id, now, **wanted).id
        host = ask.headers.get("host", "")
        location = f"{f'http://{host}' if host else ''}{ask.path}/Operations/{operation_id}"
        return _json(202, {"operationId": operation_id, "operationLocation": location})

    def _error(self, status: int, *headers: tuple[str, str], message: str | None = None) -> Reply:
        shape = self._scenario.error_shape
        if shape == "mixed":
            shape = _SHAPES[self._errors % len(_SHAPES)]
            self._errors += 1
        body, content_type = error_body(status, shape=shape, message=message)
        return Reply(status=status, headers=(("Content-Type", content_type), *headers), body=body)

    def _token(self, digest: str, start: tuple[int, str] | None) -> str:
        self._tokens += 1
        return make_token(digest, start, self._tokens)

    def _with_usual_headers(self, reply: Reply, now: int) -> Reply:
        usual = (("Date", http_date(now)), ("Twilio-Request-Id", f"RQ{self._rng.getrandbits(128):032x}"))
        latency = self._scenario.latency.draw(self._rng)
        return replaced(reply, headers=(*reply.headers, *usual), delay=reply.delay + latency)

    def _note(self, target: Target, reply: Reply, now: int) -> None:
        account_id = target.account_id
        entry = Entry(
            at=now,
            account_id=account_id,
            endpoint=target.endpoint,
            operation_id=target.operation_id,
            outcome=_outcome(reply),
            during_hold=account_id is not None and self.ledger.holds(account_id, now),
        )
        self.ledger.note(entry)
        wait = reply.header("Retry-After")
        if account_id is not None and wait is not None and reply.status in (_TOO_MANY, _UNAVAILABLE):
            answered_at = now + reply.delay * self._second // SECOND
            # Only a Retry-After in seconds is recorded: a date has lost its fraction of a second.
            if wait.isdigit():
                self.ledger.hold(account_id, answered_at=answered_at, until=answered_at + int(wait) * self._second)


def _target(ask: Request, account: Account | None) -> Target:
    account_id = account.account_id if account is not None else None
    if ask.path in _OPERATIONS:
        return Target(endpoint="list", account_id=account_id)
    if ask.path in _SENDS and ask.method == "POST":
        return Target(endpoint="send", account_id=account_id)
    before, _, last = ask.path.rpartition("/")
    if before in _OPERATIONS and last:
        return Target(endpoint="fetch", account_id=account_id, operation_id=unquote(last))
    return Target(endpoint="other", account_id=account_id)


def _json(status: int, value: object) -> Reply:
    return Reply(status=status, headers=(("Content-Type", "application/json"),), body=msgspec.json.encode(value))


def _denied(status: int, *headers: tuple[str, str]) -> Reply:
    # The gateway answers before the API, in a shape of its own.
    body, content_type = error_body(status, shape="classic")
    return Reply(status=status, headers=(("Content-Type", content_type), *headers), body=body)


def _outcome(reply: Reply) -> str:
    match reply.delivery:
        case Reset():
            return "reset"
        case Cut():
            return "cut"
        case Silent():
            return "silent"
        case Endless():
            return "endless"
        case _:
            return str(reply.status)
