"""One loop per account: plan, request, observe, commit, publish.

account           the loop; owns everything below
tracker           the tracked operations: applies each answer to them
attributor        decides which answers are believed, and what they say about the account as a whole
operation_table   the tracked operations by id, with counts that are kept as they change
discovery_runner  runs discovery: reads pages, registers rows, moves the cursor
counters          the counters as they are shown, kept equal to the store's
write_buffer      changes that are not written yet
store_sync        the store's side: load, take in, register, write; retries while the store fails
ports             the settings of a loop, and the protocol of its observer
"""

from watcher.watch.account import AccountWatch
from watcher.watch.ports import AccountObserver, WatchSettings

__all__ = ["AccountObserver", "AccountWatch", "WatchSettings"]
