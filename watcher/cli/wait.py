"""`watcher wait`: tracks operations to their end without a daemon and a store, for scripts and CI."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence

from watcher import loop
from watcher.cli.configured import load_in_time
from watcher.cli.exits import Exit, FailedError
from watcher.cli.formatting import counted, stats_words
from watcher.cli.ids import read_ids
from watcher.cli.output import say, warn
from watcher.cli.progress import display
from watcher.cli.verdict import FailureLimits, judge, total
from watcher.cli.wait_loop import WaitLoop
from watcher.clock import Clock
from watcher.core.model import Operation
from watcher.core.settings import Account


def execute(arguments: Namespace) -> int:
    """Track all ids to their end, and print how they ended."""
    ids = read_ids(arguments.ids)
    loaded = load_in_time(arguments.config)
    account = _account(loaded.configuration.accounts, arguments.account)
    clock = Clock()
    waiting = WaitLoop(loaded, account, ids, clock)
    with display(lambda: clock.now().tick) as shown:
        stop = loop.run(waiting.until_ended(arguments.timeout, shown.show))
    limits = FailureLimits(failed=arguments.max_failed, unaddressable=arguments.max_unaddressable)
    verdict = judge(stop, waiting.operations, limits, waiting.why)
    say(_summary(waiting.operations))
    warn(*(f"watcher wait: {reason}" for reason in verdict.reasons))
    return verdict.code


def _account(accounts: Sequence[Account], name: str | None) -> Account:
    names = ", ".join(account.name for account in accounts)
    if name is None:
        if len(accounts) > 1:
            raise FailedError(Exit.USAGE, f"several accounts are configured; choose one with --account: {names}")
        return accounts[0]
    chosen = next((account for account in accounts if account.name == name), None)
    if chosen is None:
        raise FailedError(Exit.USAGE, f"no account is called {name!r}; the accounts are {names}")
    return chosen


def _summary(operations: Sequence[Operation]) -> str:
    outcomes = Counter("not ended" if one.outcome is None else one.outcome.replace("_", " ") for one in operations)
    parts = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items())
    return f"{counted(len(operations), 'operation')}: {parts}; {stats_words(total(operations))}"
