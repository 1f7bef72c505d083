"""Operation ids: the prefix and 26 characters of Crockford base32, which hold a UUIDv7 (a TypeID)."""

import random
import re

PREFIX = "comms_operation_"

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
# Twilio: the published pattern has no end anchor, so the whole text is matched here.
_PATTERN = re.compile(r"comms_operation_[0-7][a-hjkmnpqrstv-z0-9]{25,34}")


def make_id(created_at: int, rng: random.Random) -> str:
    """Return a new id whose first 48 bits are the millisecond of `created_at`."""
    millisecond = created_at // 1_000
    uuid = millisecond << 80 | 0x7 << 76 | rng.getrandbits(12) << 64 | 0b10 << 62 | rng.getrandbits(62)
    return PREFIX + _base32(uuid)


def is_well_formed(text: str) -> bool:
    """Whether the text could be the id of an operation."""
    return _PATTERN.fullmatch(text) is not None


def _base32(uuid: int) -> str:
    return "".join([_ALPHABET[uuid >> shift & 31] for shift in range(125, -1, -5)])
