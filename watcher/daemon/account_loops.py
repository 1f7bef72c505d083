"""The running loops, one per account: starts, stops and reads them by the account's name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from watcher.core.account_health import AccountHealth
from watcher.core.census import Census, choose_shown
from watcher.core.model import Operation
from watcher.core.snapshot import AccountSnapshot, NextPoll
from watcher.daemon.accounts import AccountRuntime
from watcher.threads import Threads

STOP_SECONDS = 2.0
"""How long a loop that stops may take for its last answers and writes."""

REFRESH_SECONDS = 10.0
"""How long reading the secrets may take before a warning is logged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    watched: AccountRuntime
    task: asyncio.Task[None]
    stop: asyncio.Event


class AccountLoops:
    """The account loops, in the order of the configuration. A loop that raises ends the whole task group."""

    def __init__(self, max_operations: Callable[[], int], threads: Threads | None = None) -> None:
        self._threads = threads or Threads("secrets")
        self._running: dict[str, _Running] = {}
        self._max_operations = max_operations
        self._census = Census()

    def __iter__(self) -> Iterator[AccountRuntime]:
        return (running.watched for running in self._running.values())

    @property
    def names(self) -> Sequence[str]:
        """The names of the accounts that have a running loop."""
        return tuple(self._running)

    @property
    def unfinished(self) -> int:
        """The number of operations that are not final."""
        return sum(watched.watch.unfinished for watched in self)

    def start(self, watched: AccountRuntime, tasks: asyncio.TaskGroup) -> None:
        """Run the loop until `stop` is called with its name."""
        stop = asyncio.Event()
        task = tasks.create_task(watched.watch.run(stop), name=f"watch {watched.settings.name}")
        self._running[watched.settings.name] = _Running(watched=watched, task=task, stop=stop)

    async def stop(self, names: Collection[str]) -> Mapping[str, AccountHealth]:
        """Stop these loops at the same time; each has `STOP_SECONDS` for its last answers and writes.

        Returns the health of each account, for the loop that may replace it.
        """
        ending = [self._running.pop(name) for name in names]
        for running in ending:
            running.stop.set()
            running.watched.watch.wake()
        if ending:
            await asyncio.wait([running.task for running in ending], timeout=STOP_SECONDS)
        for running in ending:
            running.task.cancel()
            await running.watched.http.aclose()
        return {running.watched.settings.name: running.watched.watch.health.for_another_loop() for running in ending}

    def wake(self, account: str) -> None:
        """Wake the loop of an account for which intake changed something."""
        if (running := self._running.get(account)) is not None:
            running.watched.watch.wake()

    async def refresh_secrets(self) -> None:
        """Read the secrets again, as their files may have changed. In threads, since a file may be on a slow disk.

        Raises TimeoutError where a file takes too long, NoThreadError.
        """
        async with asyncio.timeout(REFRESH_SECONDS):
            await asyncio.gather(
                *(self._threads.share(watched.credentials, watched.credentials.refresh) for watched in self)
            )

    def snapshots(self) -> Sequence[AccountSnapshot]:
        """All accounts as they are now. Of more than `max_operations` operations, the census chooses those shown."""
        candidates_by_account = {name: running.watched.watch.candidates() for name, running in self._running.items()}
        if not candidates_by_account:
            return []
        counts = {name: len(candidates_of_account) for name, candidates_of_account in candidates_by_account.items()}
        now = next(iter(self)).watch.now()
        candidates = [
            operation for candidates_of_account in candidates_by_account.values() for operation in candidates_of_account
        ]
        self._census, shown = choose_shown(self._census, candidates, now, self._max_operations())
        if len(shown) < len(candidates):
            candidates_by_account = _by_account(shown, candidates_by_account)
        return [
            running.watched.watch.snapshot(
                candidates_by_account[name], suppressed=counts[name] - len(candidates_by_account[name])
            )
            for name, running in self._running.items()
        ]

    def scraped(self, carried: object) -> None:
        """Note that a scrape that carried these snapshots is complete."""
        assert isinstance(carried, Sequence)  # noqa: S101 -- always a result of `snapshots`
        for snapshot in carried:
            if (running := self._running.get(snapshot.account)) is not None:
                running.watched.watch.scraped(snapshot)

    def next_poll(self, account: str, operation_id: str) -> NextPoll | None:
        """When, how and why an operation is polled next."""
        running = self._running.get(account)
        return None if running is None else running.watched.watch.next_poll(operation_id)

    def overdue(self) -> Sequence[str]:
        """The names of the accounts whose loops make no progress."""
        return [watched.settings.name for watched in self if watched.watch.is_overdue()]


def _by_account(operations: Sequence[Operation], accounts: Collection[str]) -> dict[str, Sequence[Operation]]:
    found: dict[str, list[Operation]] = {account: [] for account in accounts}
    for operation in operations:
        found[operation.account].append(operation)
    return {**found}
