"""What is measured: the cases of the table, the world of each, and the settings of the daemon in it."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watcher.simulator.ids import make_id

MANY = 10_000
OPERATIONS_OF_AN_ACCOUNT = 20
HISTORY = "2h"
LIFETIME = "2s..2h"
TOKEN = "simulated-auth-token"  # noqa: S105 - opens nothing but a simulation
MICROSECONDS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the table. `idle` is the number of tracked operations of a sidecar in an account that others use."""

    name: str
    in_flight: int
    accounts: int = 1
    tls: bool = False
    idle: int | None = None
    faults: tuple[Mapping[str, Any], ...] = ()
    restarts: int = 0
    loop_lag: bool = False
    group: str = ""

    @property
    def freshness(self) -> float:
        """Seconds; what 40 requests a second keep at 100,000."""
        return 5.0 if self.in_flight <= MANY else 30.0

    @property
    def tracked(self) -> int:
        """How many operations run and are tracked, over all accounts."""
        return self.in_flight * self.accounts if self.idle is None else self.idle


def every_case() -> tuple[Case, ...]:
    """In the order of the table. The cases of a group are small enough to be measured at the same time."""
    return (
        *(Case(name=f"idle-{number}", in_flight=20, idle=number, group="small") for number in (0, 1, 20)),
        Case(name="100", in_flight=100, group="small"),
        Case(name="1000", in_flight=1000, group="small"),
        Case(name="10000", in_flight=10_000, restarts=3, loop_lag=True),
        Case(name="100000", in_flight=100_000, loop_lag=True),
        *(
            Case(
                name=f"accounts-{number}",
                in_flight=OPERATIONS_OF_AN_ACCOUNT,
                accounts=number,
                tls=True,
                group="small" if number < 200 else "",
            )
            for number in (1, 10, 50, 200)
        ),
    )


def chosen(names: str, cases: tuple[Case, ...]) -> tuple[Case, ...]:
    """The named cases of these, all for no name; `idle` names all `idle-…`. ValueError for an unknown name."""
    found: list[Case] = []
    for name in names.split(",") if names else ():
        here = [case for case in cases if name in (case.name, case.name.rpartition("-")[0])]
        if not here:
            raise ValueError(f"no case is called {name!r}, only {', '.join(case.name for case in cases)}")
        found += here
    return tuple(dict.fromkeys(found)) if names else cases


def account_id(number: int) -> str:
    return f"AC{number:032x}"


def tracked_ids(case: Case) -> list[str]:
    """Ids of the operations of an idle case; made anew for each run, as an id tells its age."""
    created = int(time.time() - 3600) * MICROSECONDS
    return [make_id(created, random.Random(f"{case.name} {number}")) for number in range(case.idle or 0)]


def scenario(case: Case, ids: list[str]) -> dict[str, Any]:
    """New operations arrive as often as others end, and two hours of ended ones are in the lists from the start."""
    written: dict[str, Any] = {
        "accounts": [{"account_id": account_id(n), "api_key": None} for n in range(case.accounts)],
        "population": {
            "in_flight": case.in_flight * case.accounts,
            "lifetime": LIFETIME,
            "recipients": "1..1000",
            "share_canceled": 0.03,
            "history": HISTORY,
        },
        "operations": [{"id": one, "created": "-1h", "stats": {"recipients": 1000}} for one in ids],
        "faults": list(case.faults),
    }
    if not case.in_flight:
        written["operations"] += [
            {"created": f"-{minutes}m", "completed": f"-{minutes - 1}m", "stats": {"recipients": 10}}
            for minutes in range(5, 121)
        ]
    return written


def settings(case: Case, base_url: str, folder: Path, *, ids: list[str], ca_file: Path | None) -> Mapping[str, Any]:
    """The daemon's configuration: settling as by default, discovery but for the idle sidecar."""
    token = folder / "auth_token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    account = {"auth_token_file": str(token), "base_url": base_url, "discover": case.idle is None, "operations": ids}
    if ca_file is not None:
        account["ca_file"] = str(ca_file)
    if case.idle is None and case.accounts == 1:
        large = case.in_flight > MANY
        account |= {"max_requests_per_second": 40 if large else 20, "max_concurrency": 8 if large else 4}
    accounts = [account | {"name": f"account-{n}", "account_id": account_id(n)} for n in range(case.accounts)]
    more = {} if case.idle is not None else {"metrics": {"max_operations": MANY}}
    return {"accounts": accounts, "polling": {"freshness": f"{case.freshness:g}s"}, **more}
