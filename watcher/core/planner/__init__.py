"""Chooses the next request of an account, and when.

planner         the queue of polls, turned into requests: sweeps, harvest windows, single operations, probes
sweeps          the progress of sweeps, page by page
windows         the cheapest list window for an operation that is due
creation_index  polls ordered by creation time
due_queue       polls ordered by due time
polls           when an operation is polled next, and why
row_density     the number of list rows per creation bucket
exit_rates      the rate at which operations leave a list
"""

from watcher.core.planner.planner import Planner
from watcher.core.planner.polls import Promise

__all__ = ["Planner", "Promise"]
