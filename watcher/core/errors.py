"""The errors of the product, split by whose turn it is.

    WatcherError
    ├── OperatorError            a person must change something: exit code 2
    │   ├── ConfigurationError   (watcher.config) every problem of the configuration at once
    │   ├── SecretError          (watcher.config) a secret that cannot be read or used
    │   └── StoreRefused         the store must not be touched: newer version, other account, held by another daemon
    └── StoreUnusable            time may mend it: full, read-only, slow, locked

What upstream does wrong is not in this tree: a failed request is an observation (see `observation`), never an exception
that crosses the loop. Messages are lower-case facts with the value in them, never a secret, never a body.
"""

from __future__ import annotations


class WatcherError(Exception):
    """Base of all errors that the product raises on purpose."""


class OperatorError(WatcherError):
    """Something that only a person can mend; the message says what to do."""


class StoreRefused(OperatorError):  # noqa: N818 -- the refusal is the fact, "Error" would add nothing
    """The store is not ours to use as it stands; it was left untouched."""


class StoreUnusable(WatcherError):  # noqa: N818 -- a condition that passes
    """The store cannot be written or read at the moment; what was to be written must be kept and tried again."""
