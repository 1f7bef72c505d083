"""One loop per account: plan → ask → observe → commit → tell.

account   the loop and its working state; nobody else touches it
roster    the operations that it holds, counted as they change
ledger    what is learned but not yet written, and its way into the store
"""

from watcher.watch.account import AccountWatch, Following, Listener
from watcher.watch.ledger import Ledger

__all__ = ["AccountWatch", "Following", "Ledger", "Listener"]
