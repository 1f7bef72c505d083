"""What upstream counts of an operation, and what each count means.

`Channel.fields` is the one table of counts: series, counters, failures, the page and the commands are derived from it.
A new count is a field of `Stats` and a row of this table.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Annotated, Any, TypeAlias

import msgspec

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""A count as upstream may send it. Negative numbers, and those that a gauge cannot hold exactly, are no counts."""


class StatKind(enum.Enum):
    """What a field counts."""

    STATE = enum.auto()
    """Messages in one state. Fields of this kind are one family and differ by the label `state`."""
    MESSAGES = enum.auto()
    RECIPIENTS = enum.auto()


class StatField(msgspec.Struct, frozen=True, kw_only=True):
    """One count: `name` is upstream's and that of the field of `Stats`; `metric` and `help` are of its gauge.

    `is_failure`: more than 0 means that something failed. `only_rises`: a lower count is an anomaly. `is_counted`: a
    finished operation adds it to the counter `metric` + `_finished_total`. `prolongs_settling`: while it still changes
    after the end, the stats are not final.
    """

    name: str
    kind: StatKind
    metric: str
    help: str
    is_failure: bool = False
    only_rises: bool = False
    is_counted: bool = False
    prolongs_settling: bool = True


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of message that upstream sends.

    `name` is the value of the label `channel`, `path` its part of the URL, `message` the noun for one message.
    """

    name: str
    path: str
    message: str
    fields: tuple[StatField, ...]

    def names(self, chosen: Callable[[StatField], bool]) -> tuple[str, ...]:
        """The names of the chosen fields, in the order of the table."""
        return tuple(field.name for field in self.fields if chosen(field))


STATES_METRIC = "twilio_operation_messages"
STATES_HELP = "Messages of the operation, by state."


def _state(name: str, *, is_failure: bool = False, only_rises: bool = False, is_counted: bool = False) -> StatField:
    return StatField(
        name=name,
        kind=StatKind.STATE,
        metric=STATES_METRIC,
        help=STATES_HELP,
        is_failure=is_failure,
        only_rises=only_rises,
        is_counted=is_counted,
    )


PUSH = Channel(
    name="push",
    path="PushNotifications",
    message="notification",
    fields=(
        _state("scheduled"),
        _state("queued"),
        _state("sent", only_rises=True, is_counted=True),
        _state("failed", is_failure=True, only_rises=True, is_counted=True),
        _state("canceled", is_counted=True),
        StatField(
            name="total",
            kind=StatKind.MESSAGES,
            metric="twilio_operation_size",
            help="Messages in the operation.",
        ),
        StatField(
            name="recipients",
            kind=StatKind.RECIPIENTS,
            metric="twilio_operation_recipients",
            help="Recipients that the operation targets.",
            is_counted=True,
        ),
        StatField(
            name="unaddressable",
            kind=StatKind.RECIPIENTS,
            metric="twilio_operation_unaddressable_recipients",
            help="Recipients with no valid device token, to which nothing was sent.",
            is_failure=True,
            only_rises=True,
            is_counted=True,
        ),
    ),
)


class Stats(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Upstream's counts of an operation; the table says what each counts."""

    total: Count | None = None
    recipients: Count | None = None
    scheduled: Count | None = None
    queued: Count | None = None
    sent: Count | None = None
    failed: Count | None = None
    canceled: Count | None = None
    unaddressable: Count | None = None

    def merged_with(self, newer: Stats) -> Stats:
        """The newer stats, with the known count where the newer lack one."""
        # The two frequent cases first: nothing has changed, or all counts are there.
        if newer == self:
            return self
        if None not in msgspec.structs.astuple(newer):
            return newer
        return Stats(
            **{
                name: mine if (given := getattr(newer, name)) is None else given
                for name in STAT_NAMES
                if (mine := getattr(self, name)) is not None or getattr(newer, name) is not None
            }
        )

    @property
    def has_failures(self) -> bool:
        """Whether any count of failures is above 0."""
        return any(_failures(self))

    def has_fallen_from(self, before: Stats) -> bool:
        """Whether a count that can only rise is lower than before."""
        return any(map(_is_less, _rising(self), _rising(before)))

    def fails_more_than(self, before: Stats) -> bool:
        """Whether a count of failures is higher than before."""
        return any((new or 0) > (old or 0) for new, old in zip(_failures(self), _failures(before), strict=True))

    def still_moves_from(self, before: Stats) -> bool:
        """Whether a count has changed that prolongs settling."""
        return bool(_prolonging(self) != _prolonging(before))


STAT_NAMES: tuple[str, ...] = Stats.__struct_fields__
STATES = PUSH.names(lambda field: field.kind is StatKind.STATE)
FAILURES = PUSH.names(lambda field: field.is_failure)
DONE = PUSH.names(lambda field: field.kind is StatKind.STATE and field.is_counted)
"""The states in which nothing more happens to a message."""

BAR = (
    *(name for name in DONE if name in FAILURES),
    *(name for name in DONE if name not in FAILURES),
    *(name for name in reversed(STATES) if name not in DONE),
)
"""States in the order in which a bar shows them: failures first, then what is done, then what is nearest to it."""


def _reader(names: Sequence[str]) -> Callable[[Stats], tuple[Any, ...]]:
    """A function that reads these counts: `attrgetter` is four times as fast as reading them by name."""
    assert len(names) > 1  # noqa: S101 -- of a single name it would not return a tuple
    return attrgetter(*names)


_failures = _reader(FAILURES)
_rising = _reader(PUSH.names(lambda field: field.only_rises))
_prolonging = _reader(PUSH.names(lambda field: field.prolongs_settling))


def _is_less(new: int | None, old: int | None) -> bool:
    return old is not None and new is not None and new < old
