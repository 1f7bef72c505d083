"""Control endpoints, which the real API does not have: under `/_simulator/`, without credentials.

GET operations   the true state of every operation; ?account=, ?status=
GET requests     counts of requests; ?last= also lists this number of the last ones
PUT faults       replaces the list of faults; `from` and `until` count from now
PUT credentials  changes accounts: one, or a list of them
PUT limits       replaces the limits
"""

from typing import Any
from urllib.parse import parse_qs

import msgspec

from watcher.simulator.fault_types import Fault
from watcher.simulator.life import ENDED, Life, last_stats, state
from watcher.simulator.messages import Reply, Request
from watcher.simulator.scenario import Account, Limits, ScenarioError, convert
from watcher.simulator.timestamps import NEVER, SECOND, rfc3339
from watcher.simulator.upstream import Upstream

CONTROL_PATH = "/_simulator/"


def control(upstream: Upstream, ask: Request, now: int) -> Reply:
    """Return the answer to a request whose path begins with `/_simulator/`."""
    given = {name: values[-1] for name, values in parse_qs(ask.query).items()}
    try:
        match ask.method, ask.path.removeprefix(CONTROL_PATH):
            case "GET", "operations":
                return _answer(200, _operations(upstream, given, now))
            case "GET", "requests":
                return _answer(200, _requests(upstream, given, now))
            case "PUT", "faults":
                upstream.set_faults(_read(ask.body, tuple[Fault, ...]), now)
            case "PUT", "credentials":
                upstream.set_accounts(_changed_accounts(upstream, _read(ask.body, Any)))
            case "PUT", "limits":
                upstream.set_limits(_read(ask.body, Limits))
            case _:
                return _answer(404, {"error": f"not found: {ask.method} {ask.path}"})
    except (ScenarioError, ValueError) as error:
        return _answer(400, {"error": str(error)})
    return _answer(200, {"changed": True})


def _operations(upstream: Upstream, given: dict[str, str], now: int) -> dict[str, Any]:
    upstream.world.advance(now)
    shown = (_truth(life, now) for life in upstream.world.lives() if given.get("account") in (None, life.account_id))
    status = given.get("status", "").upper()
    return {"now": rfc3339(now), "operations": [one for one in shown if not status or one["status"] == status]}


def _truth(life: Life, now: int) -> dict[str, Any]:
    record = state(life, now)
    return {
        **msgspec.to_builtins(record),
        "accountId": life.account_id,
        # To the microsecond, unlike in the API; null for an operation that never ends.
        "createdSeconds": life.created_at / SECOND,
        "endsSeconds": life.ended_at / SECOND if life.ended_at < NEVER else None,
        "finalStats": last_stats(life) if record.status in ENDED else None,
    }


def _requests(upstream: Upstream, given: dict[str, str], now: int) -> dict[str, Any]:
    ledger = upstream.ledger
    counts: dict[str, dict[str, int]] = {}
    for (endpoint, outcome), number in ledger.counts.items():
        counts.setdefault(endpoint, {})[outcome] = number
    last = int(given.get("last", "0"))
    return {
        "now": rfc3339(now),
        "counts": counts,
        "mostConcurrent": dict(ledger.most_concurrent),
        "duringHold": ledger.during_hold,
        "last": list(ledger.entries)[-last:] if last > 0 else [],
    }


def _changed_accounts(upstream: Upstream, written: Any) -> tuple[Account, ...]:
    known = {account.account_id: account for account in upstream.accounts}
    changed = []
    for change in written if isinstance(written, list) else [written]:
        account_id = change.get("account_id") if isinstance(change, dict) else None
        if account_id not in known:
            raise ScenarioError(f"no account is called {account_id!r}")
        changed.append(convert(msgspec.structs.asdict(known[account_id]) | change, Account))
    return tuple(changed)


def _read(body: bytes, kind: Any) -> Any:
    try:
        return convert(msgspec.json.decode(body), kind)
    except msgspec.DecodeError as error:
        raise ScenarioError(f"not JSON: {error}") from error


def _answer(status: int, value: object) -> Reply:
    return Reply(status=status, headers=(("Content-Type", "application/json"),), body=msgspec.json.encode(value))
