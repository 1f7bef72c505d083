"""`watcher track`: makes a running daemon track operations; long lists are sent in batches."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from watcher.cli.admin_client import daemon
from watcher.cli.exits import Exit, FailedError
from watcher.cli.formatting import counted
from watcher.cli.ids import read_ids
from watcher.cli.output import say
from watcher.intake import MAX_ENTRIES, TrackRequest

BATCH_BYTES = 3 * 1024 * 1024
"""Size of a batch. The daemon accepts bodies of 4 MiB; the rest is room for brackets and commas."""

_RESULTS = {
    "new": "newly tracked",
    "known": "already tracked",
    "finished": "ended before",
    "passed_over": "left out, since untracked earlier",
}


class TrackResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """The result of one id."""

    id: str
    account: str
    result: str
    outcome: str | None = None


class Results(msgspec.Struct, frozen=True):
    """The results of all ids, in the order given."""

    operations: list[TrackResult]


def execute(arguments: Namespace) -> int:
    """Track all ids. If the daemon refuses a batch, those before it stay tracked and are printed."""
    ids = read_ids(arguments.ids)
    labels = dict(arguments.labels)
    entries = [msgspec.json.encode(TrackRequest(id=one, account=arguments.account, labels=labels)) for one in ids]
    results: list[TrackResult] = []
    try:
        with daemon(arguments) as found:
            for batch in batches(entries):
                answer = found.ask("POST", "/api/v1/operations", body=b"[" + b",".join(batch) + b"]")
                results += msgspec.json.decode(answer, type=Results).operations
    except FailedError:
        if results:
            _print(results, as_json=arguments.json)
        raise
    _print(results, as_json=arguments.json)
    return Exit.GOOD


def batches(entries: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield the entries in order, in as few batches as the limits of the daemon allow."""
    begin = size = 0
    for index, entry in enumerate(entries):
        if index > begin and (size + len(entry) > BATCH_BYTES or index - begin == MAX_ENTRIES):
            yield entries[begin:index]
            begin, size = index, 0
        size += len(entry) + 1
    yield entries[begin:]


def _print(results: Sequence[TrackResult], *, as_json: bool) -> None:
    if as_json:
        say(msgspec.json.encode(Results(operations=list(results))).decode())
        return
    say(*(f"{one.id} {one.result}" + (f" ({one.outcome})" if one.outcome else "") for one in results))
    if len(results) > 1:
        counts = Counter(one.result for one in results)
        parts = ", ".join(f"{count:,} {_RESULTS.get(result, result)}" for result, count in counts.items())
        say(f"{counted(len(results), 'operation')}: {parts}")
