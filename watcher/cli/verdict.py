"""Decides the exit code of `wait` from the ends of operations. Pure, so that all codes are decided in one place.

The limits are sums over all operations. Where several codes apply, the order is that of `exits`.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Sequence
from typing import assert_never

from watcher.cli.exits import Exit
from watcher.cli.formatting import counted
from watcher.core.channels import PUSH, StatKind, Stats
from watcher.core.model import Operation, Outcome, Value


class Stop(enum.Enum):
    """Why `wait` stopped waiting."""

    ALL_ENDED = enum.auto()
    TIMED_OUT = enum.auto()
    UNREACHABLE = enum.auto()
    UNAUTHORIZED = enum.auto()


class FailureLimits(Value, frozen=True, kw_only=True):
    """The highest numbers that still count as good; None for any number."""

    failed: int = 0
    unaddressable: int | None = None


class Verdict(Value, frozen=True, kw_only=True):
    """The exit code and its reasons, for the operator."""

    code: Exit
    reasons: tuple[str, ...] = ()


def judge(stop: Stop, operations: Sequence[Operation], limits: FailureLimits, why: str = "") -> Verdict:
    """Return the verdict over all operations. `why` is the failure of the API that ended the waiting."""
    bad = tuple(_bad(operations, limits))
    waiting = [operation for operation in operations if operation.outcome is None]
    match stop:
        case Stop.UNAUTHORIZED:
            reasons = (f"the credentials were refused: {why}; check the account's id, key and secret",)
            return Verdict(code=Exit.USAGE, reasons=reasons + bad)
        case Stop.UNREACHABLE:
            return Verdict(code=Exit.UNREACHABLE, reasons=(f"the API could not be reached: {why}", *bad))
        case Stop.TIMED_OUT:
            reasons = (f"timed out, {counted(len(waiting), 'operation')} had not ended",)
            return Verdict(code=Exit.ENDED_BADLY if bad else Exit.TIMED_OUT, reasons=reasons + bad)
        case Stop.ALL_ENDED:
            return Verdict(code=Exit.ENDED_BADLY if bad else Exit.GOOD, reasons=bad)
        case _:
            assert_never(stop)


def total(operations: Sequence[Operation]) -> Stats:
    """Return the sums of the stats. A number that no operation has stays absent."""
    sums: Counter[str] = Counter()
    for operation in operations:
        for name in Stats.__struct_fields__:
            value = getattr(operation.stats, name)
            if value is not None:
                sums[name] += value
    return Stats(**sums)


def _bad(operations: Sequence[Operation], limits: FailureLimits) -> list[str]:
    outcomes = Counter(operation.outcome for operation in operations)
    sums = total(operations)
    reasons = [
        f"{counted(outcomes[outcome], 'operation')} ended as {outcome.replace('_', ' ')}"
        for outcome in Outcome
        if outcome is not Outcome.COMPLETED and outcomes[outcome]
    ]
    for field in PUSH.fields:
        count, limit = getattr(sums, field.name) or 0, getattr(limits, field.name, None)
        if limit is not None and count > limit:
            noun = "recipient" if field.kind is StatKind.RECIPIENTS else PUSH.message
            reasons.append(f"{counted(count, noun)} {field.name}, {limit:,} allowed (--max-{field.name})")
    return reasons
