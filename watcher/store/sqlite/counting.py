"""Counters and combinations of counter labels: reads and writes the rows that `CounterBook` decides on.

A counter's `value` is shown. Its `held` is not shown yet: it was counted while its combination was closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.core.labelling import CombinationState, CounterBook, Counters, adopted, count_shown, counters_of
from watcher.core.totals import keys_of
from watcher.store.sqlite.rows import key_of, key_text, labels_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from watcher.core.labelling import Combination
    from watcher.core.model import Instant

STATE = "SELECT key, created_at, tracked_at, shown_at, is_open, revision FROM combinations "
"""The columns that `_states` expects; to be followed by WHERE."""


def counters(connection: sqlite3.Connection, account: str) -> Counters:
    """The counters as they are to be shown."""
    shown = _states(connection.execute(STATE + "WHERE account = ? AND shown_at IS NOT NULL", (account,)))
    rows = connection.execute("SELECT key, value FROM counters WHERE account = ?", (account,))
    return counters_of(_names(connection, account) or (), shown, ((key_of(key), value) for key, value in rows))


def open_book(connection: sqlite3.Connection, account: str, *, revision: int = 0) -> CounterBook:
    """The `CounterBook` for one transaction."""

    def stored(combination: Combination) -> CombinationState | None:
        key = key_text(combination)
        rows = connection.execute(STATE + "WHERE account = ? AND key = ?", (account, key))
        return _states(rows).get(combination)

    def shown_count() -> int:
        rows = connection.execute("SELECT key FROM combinations WHERE account = ? AND shown_at IS NOT NULL", (account,))
        return count_shown([key_of(key) for (key,) in rows])

    return CounterBook(_names(connection, account) or (), stored=stored, shown_count=shown_count, revision=revision)


def write_book(connection: sqlite3.Connection, account: str, book: CounterBook) -> None:
    """Write what the book decided."""
    _write_states(connection, account, book.changed)
    keys = dict.fromkeys([*book.counted, *book.held])
    connection.executemany(
        """
        INSERT INTO counters (account, key, value, held) VALUES (?, ?, ?, ?)
        ON CONFLICT DO UPDATE SET value = value + excluded.value, held = held + excluded.held
        """,
        [(account, key_text(key), book.counted.get(key, 0), book.held.get(key, 0)) for key in keys],
    )


def adopt_counter_labels(connection: sqlite3.Connection, account: str, names: Sequence[str], now: Instant) -> None:
    """Count under these labels from now on."""
    if _names(connection, account) == tuple(names):
        return
    states = _states(connection.execute(STATE + "WHERE account = ?", (account,)))
    rows = connection.execute(
        "SELECT labels FROM operations WHERE account = ? AND untracked_at IS NULL AND final_at IS NULL", (account,)
    )
    unfinished = [labels_of(text) for text in {text for (text,) in rows}]
    _write_states(connection, account, adopted(names, states, unfinished, now))
    # The combinations of the new labels are first shown with everything counted so far, so nothing stays held back.
    connection.execute("UPDATE counters SET value = value + held, held = 0 WHERE account = ? AND held > 0", (account,))
    connection.execute(
        """
        INSERT INTO accounts (name, counter_labels) VALUES (?, ?)
        ON CONFLICT DO UPDATE SET counter_labels = excluded.counter_labels
        """,
        (account, key_text(tuple(names))),
    )


def open_combinations(connection: sqlite3.Connection, account: str, combinations: Collection[Combination]) -> None:
    """Open the combinations: what was held back for them is shown."""
    connection.executemany(
        "UPDATE combinations SET is_open = 1 WHERE account = ? AND key = ?",
        [(account, key_text(combination)) for combination in combinations],
    )
    connection.executemany(
        "UPDATE counters SET value = value + held, held = 0 WHERE account = ? AND key = ? AND held > 0",
        [(account, key_text(key)) for combination in combinations for key in keys_of(combination)],
    )


def retire_combinations(
    connection: sqlite3.Connection, account: str, combinations: Collection[Combination], *, tracked_before: Instant
) -> None:
    """Stop showing the combinations; their counts stay."""
    # Checked once more: since the loop chose them, an operation with such a combination may have been registered.
    connection.executemany(
        """
        UPDATE combinations SET shown_at = NULL, is_open = 0
        WHERE account = ? AND key = ? AND is_open = 1 AND tracked_at < ?
        """,
        [(account, key_text(combination), tracked_before) for combination in combinations],
    )


def shows_more(connection: sqlite3.Connection, account: str, since: int) -> bool:
    """Whether a further combination is shown since the revision."""
    found = connection.execute(
        "SELECT 1 FROM combinations WHERE account = ? AND shown_at IS NOT NULL AND revision > ? LIMIT 1",
        (account, since),
    )
    return found.fetchone() is not None


def _names(connection: sqlite3.Connection, account: str) -> tuple[str, ...] | None:
    row = connection.execute("SELECT counter_labels FROM accounts WHERE name = ?", (account,)).fetchone()
    return None if row is None or row[0] is None else key_of(row[0])


def _states(rows: Iterable[tuple[str, int, int, int | None, int, int]]) -> dict[Combination, CombinationState]:
    return {
        key_of(key): CombinationState(
            created_at=created_at, tracked_at=tracked_at, shown_at=shown_at, is_open=bool(is_open), revision=revision
        )
        for key, created_at, tracked_at, shown_at, is_open, revision in rows
    }


def _write_states(connection: sqlite3.Connection, account: str, states: Mapping[Combination, CombinationState]) -> None:
    connection.executemany(
        """
        INSERT OR REPLACE INTO combinations (account, key, created_at, tracked_at, shown_at, is_open, revision)
        VALUES (?, ?, ?, ?, ?, ?, ?)
        """,
        [
            (account, key_text(key), state.created_at, state.tracked_at, state.shown_at, state.is_open, state.revision)
            for key, state in states.items()
        ],
    )
