"""One loop per account: plan → ask → observe → commit → tell.

account   the loop and its working state; nobody else touches it
roster    the operations that it holds, counted as they change
finder    discovery: pages read, rows registered, the cursor moved
ledger    what is learned but not yet written, and its way into the store
patience  how long to wait before a store that failed is tried again
ports     what the loop goes by, and who hears of it
"""

from watcher.watch.account import AccountWatch
from watcher.watch.ledger import Ledger
from watcher.watch.ports import Following, Listener

__all__ = ["AccountWatch", "Following", "Ledger", "Listener"]
