"""Decides which faults apply to a request, and changes the answer accordingly."""

import random
from collections.abc import Sequence

import msgspec

from watcher.simulator.error_bodies import error_body, retry_after
from watcher.simulator.fault_types import CORRUPTION, REPLACING, Fault
from watcher.simulator.messages import Cut, Delivery, Endless, Reply, Reset, Silent, Trickle, Whole
from watcher.simulator.timestamps import SECOND, http_date


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The properties of a request by which faults select it."""

    endpoint: str
    account_id: str | None = None
    operation_id: str | None = None


class Struck(tuple[Fault, ...]):
    """The faults that apply to one request."""

    __slots__ = ()

    def of(self, kind: str) -> Fault | None:
        """Return the first fault of that kind, or None."""
        return next((fault for fault in self if fault.kind == kind), None)

    @property
    def replacing(self) -> Fault | None:
        """The first fault that replaces the answer, or None."""
        return next((fault for fault in self if fault.kind in REPLACING), None)

    @property
    def corruption(self) -> tuple[Fault, ...]:
        """The faults that change rows."""
        return tuple(fault for fault in self if fault.kind in CORRUPTION)


class Faults:
    """Faults in force since `in_force_at`, from which their `from` and `until` count."""

    def __init__(self, faults: Sequence[Fault], *, in_force_at: int, rng: random.Random) -> None:
        self._faults = tuple(faults)
        self._in_force_at = in_force_at
        self._rng = rng
        self._forbidden = tuple(fault for fault in self._faults if fault.kind == "forbidden")
        self._met = [0] * len(self._faults)
        self._struck = [0] * len(self._faults)

    def strike(self, target: Target, now: int) -> Struck:
        """Return the faults that apply to this request, and count it for those that apply every n-th time."""
        return Struck(
            fault
            for number, fault in enumerate(self._faults)
            if self._concerns(fault, target, now) and self._strikes(number, fault)
        )

    def forbidden(self, account_id: str, now: int) -> frozenset[str]:
        """Return the operations that may not be read now: a fetch is answered 403, and lists leave them out."""
        return frozenset(
            fault.operation
            for fault in self._forbidden
            if fault.operation is not None
            and fault.account in (None, account_id)
            and (fault.since is None or now - self._in_force_at >= fault.since)
            and (fault.until is None or now - self._in_force_at < fault.until)
        )

    def _concerns(self, fault: Fault, target: Target, now: int) -> bool:
        age = now - self._in_force_at
        return (
            fault.endpoint in (None, target.endpoint)
            and fault.account in (None, target.account_id)
            and fault.operation in (None, target.operation_id)
            and (fault.since is None or age >= fault.since)
            and (fault.until is None or age < fault.until)
        )

    def _strikes(self, number: int, fault: Fault) -> bool:
        self._met[number] += 1
        if fault.times is not None and self._struck[number] >= fault.times:
            return False
        if fault.every is not None and self._met[number] % fault.every:
            return False
        if fault.probability is not None and self._rng.random() >= fault.probability:
            return False
        self._struck[number] += 1
        return True


def replace(fault: Fault, now: int) -> Reply:
    """Return what is sent instead of the answer."""
    if fault.kind == "status":
        return _error(fault, now)
    if fault.kind == "redirect":
        return Reply(status=307, headers=(("Location", fault.to or "https://elsewhere.example/"),))
    return _INSTEAD[fault.kind]


def deliver(reply: Reply, struck: Struck, now: int) -> Reply:
    """Return the answer with the faults of its delivery."""
    headers, body = reply.headers, reply.body
    if (huge := struck.of("huge")) is not None:
        # Spaces after a JSON value are valid.
        body += b" " * ((huge.mebibytes or 16) << 20)
    if (hint := struck.of("hint")) is not None and reply.header("Retry-After") is None:
        headers += retry_after(hint.retry_after or "seconds", hint.waits(5 * SECOND), now)
    if (skewed := struck.of("skewed_date")) is not None:
        date = ("Date", http_date(now + skewed.waits(600 * SECOND)))
        headers = (*(header for header in headers if header[0] != "Date"), date)
    if struck.of("no_date") is not None:
        headers = tuple(header for header in headers if header[0] != "Date")
    slow = struck.of("slow")
    delay = reply.delay + (slow.waits(5 * SECOND) if slow is not None else 0)
    delivery = _delivery(struck, len(body)) if isinstance(reply.delivery, Whole) else reply.delivery
    return Reply(status=reply.status, headers=headers, body=body, delay=delay, delivery=delivery)


_JSON = (("Content-Type", "application/json"),)
_INSTEAD = {
    "garbage": Reply(status=200, headers=_JSON, body=b'{"operations": [{"id": "comms_\xff\xfe operation'),
    "empty": Reply(status=200, headers=_JSON),
    "reset": Reply(status=200, delivery=Reset()),
    "silent": Reply(status=200, delivery=Silent()),
    "endless": Reply(status=200, headers=_JSON, body=b'{"operations": [', delivery=Endless()),
}


def _error(fault: Fault, now: int) -> Reply:
    status = fault.status or 500
    body, content_type = error_body(status, shape=fault.shape or ("classic" if status in (401, 403) else "errors"))
    form = fault.retry_after or ("none" if fault.wait is None else "seconds")
    headers = (("Content-Type", content_type), *retry_after(form, fault.waits(SECOND), now))
    return Reply(status=status, headers=headers, body=body)


def _delivery(struck: Struck, length: int) -> Delivery:
    if (cut := struck.of("cut")) is not None:
        # At least one byte must be missing, or the body would be complete.
        return Cut(max(0, min(length - 1, int(length * cut.shares(0.5)))))
    if (trickle := struck.of("trickle")) is not None:
        return Trickle(trickle.waits(5 * SECOND))
    return Whole()
