"""One loop per account: plan → ask → observe → commit → tell.

account     the loop; nobody else touches what it owns
follower    the operations that are followed, and what each answer teaches of them
attributor  which answers are believed, and what they say of the account as a whole
roster      those operations by id, counted as they change
finder      discovery: pages read, rows registered, the cursor moved
counters    the counters as they are shown, kept in step with the store
ledger      what is learned but not yet written, and its way into the store
keeper      the store's side: load, take in, register, write
patience    a store that fails: its listener is told, and when it is tried again
ports       what the loop goes by, and who hears of it
"""

from watcher.watch.account import AccountWatch
from watcher.watch.ledger import Ledger
from watcher.watch.ports import AccountObserver, WatchSettings

__all__ = ["AccountObserver", "AccountWatch", "Ledger", "WatchSettings"]
