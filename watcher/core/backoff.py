"""How long to wait before the next try: the one back-off that all waits share."""

from __future__ import annotations

from watcher.core.model import Micros

_DOUBLINGS_AT_MOST = 20
"""More would exceed every limit, and shifting by thousands of failures would make numbers of thousands of bits."""


def doubled(first: Micros, times: int, *, at_most: Micros) -> Micros:
    """`first`, doubled `times` times up to `at_most`; never below `first`, also where that exceeds the limit."""
    return max(first, min(first << min(max(times, 0), _DOUBLINGS_AT_MOST), at_most))
