"""The send endpoint. The body is ignored like a real send's, except for keys that script the operation."""

import msgspec

from watcher.simulator.values import Duration, decode


class BadSend(Exception):  # noqa: N818 - the client's error, not the simulator's
    """A send that is answered 400; the text says why."""


class _Send(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that script the operation; all are optional. Other keys are ignored: a real send consists of them."""

    recipients: int | None = None
    unaddressable: int | None = None
    failed: int | None = None
    lifetime: Duration | None = None
    scheduled: Duration | None = None
    # Canceled after this share of its time, 0 to 1.
    canceled_at: float | None = None


def read_send(body: bytes) -> dict[str, float]:
    """Return the fields of a Plan that the body sets. Raises BadSend if it is not a JSON object, or for bad values."""
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
        raise BadSend("numbers must not be negative, and canceled_at must be from 0 to 1")
    if send.lifetime == 0:
        raise BadSend("lifetime must be more than 0")
    return given
