"""The errors of the product, split by what resolves them: a person, or time.

    WatcherError
    ├── OperatorError            a person must change something: exit code 2
    │   ├── ConfigurationError   (watcher.config) every problem of the configuration at once
    │   ├── SecretError          (watcher.config) a secret that cannot be read or used
    │   └── StoreRefused         the store must not be touched: newer version, other account, held by another daemon
    └── StoreUnusable            may pass with time: full, read-only, slow, locked

Errors of upstream are not in this tree: a failed request is an observation (see `observation`), never an exception that
crosses the loop. Messages are lower-case facts that include the value, never a secret, never a body.
"""

from __future__ import annotations


class WatcherError(Exception):
    """Base of all errors that the watcher raises on purpose."""


class OperatorError(WatcherError):
    """Something that only a person can correct. The message says what to do."""


class StoreRefused(OperatorError):  # noqa: N818 -- the refusal is the fact, "Error" would add nothing
    """This daemon must not use the store as it is. It was not changed."""


class StoreUnusable(WatcherError):  # noqa: N818 -- a condition that passes
    """The store cannot be written or read at the moment. Pending writes must be kept and tried again."""
