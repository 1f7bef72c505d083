"""Ids of events: UUIDv7 (RFC 9562), made here so that neither the core nor a store draws random numbers.

A store asks for an id once, in the transaction that writes the event, and keeps it with the event. 74 random bits make
two equal ids practically impossible, also where the wall clock is set back or a backup is restored.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeAlias

from watcher.core.model import Instant

EventIds: TypeAlias = Callable[[Instant], str]
"""Makes a new id for an event that occurred at this time, different from every other id."""

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_A = 0xFFF << 64
_RANDOM_B = (1 << 62) - 1
_MILLISECONDS = (1 << 48) - 1


def new_event_id(occurred_at: Instant) -> str:
    """A new UUIDv7 with the event's time, to the millisecond, and random bits of the system."""
    return uuid7(occurred_at, int.from_bytes(os.urandom(10), "big"))


def uuid7(at: Instant, random_bits: int) -> str:
    """The UUIDv7 of a time and at least 76 random bits, two of which are replaced by the variant.

    A time before 1970 counts as 1970.
    """
    time_bits = (max(at, 0) // 1000 & _MILLISECONDS) << 80
    number = time_bits | _VERSION_7 | (random_bits & _RANDOM_A) | _VARIANT | (random_bits & _RANDOM_B)
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
