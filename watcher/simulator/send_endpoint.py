"""The send: its body is the client's own business, but it may also script what becomes of the operation."""

import msgspec

from watcher.simulator.values import Duration, decode


class BadSend(Exception):  # noqa: N818 - it is the client's error, not ours
    """A send that deserves a 400; the text says why."""


class _Send(msgspec.Struct, frozen=True, kw_only=True):
    """All keys may be left out; those that nobody here knows are what a real send consists of."""

    recipients: int | None = None
    unaddressable: int | None = None
    failed: int | None = None
    lifetime: Duration | None = None
    scheduled: Duration | None = None
    # Canceled after this share of its time.
    canceled_at: float | None = None


def read_send(body: bytes) -> dict[str, float]:
    """Fields of a Plan that the body asks for; BadSend when it is no JSON object or asks for nonsense."""
    if not body.strip():
        return {}
    try:
        send = msgspec.json.decode(body, type=_Send, dec_hook=decode)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadSend(str(error)) from error
    wanted = {
        "recipients": send.recipients,
        "unaddressable": send.unaddressable,
        "failed": send.failed,
        "lifetime": send.lifetime,
        "scheduled_for": send.scheduled,
        "canceled_at": send.canceled_at,
    }
    given = {name: value for name, value in wanted.items() if value is not None}
    if any(value < 0 for value in given.values()) or (send.canceled_at or 0) > 1:
        raise BadSend("no negative numbers, and canceled_at is a share")
    if send.lifetime == 0:
        raise BadSend("lifetime is more than nothing")
    return given
