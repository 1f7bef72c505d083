"""The schema in numbered steps: `schema/NNNN_what.sql` takes a store from version before NNNN to NNNN.

The version is the file's `user_version`. A step runs in one transaction together with the new version number, so a
process that dies in between leaves the store as it was.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

APPLICATION_ID = 0x6F707761
"""Marks an SQLite file as ours ("opwa")."""


def released() -> Sequence[str]:
    """The SQL of every step in order. The first step makes version 1."""
    steps = sorted(
        (step for step in files(__package__).joinpath("schema").iterdir() if step.name.endswith(".sql")),
        key=lambda step: step.name,
    )
    return tuple(step.read_text("utf-8") for step in steps)


def migrate(connection: sqlite3.Connection, steps: Sequence[str]) -> None:
    """Bring the database to the newest version."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number, step in enumerate(steps[version:], start=version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{step}\n"
            f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {number};\nCOMMIT;"
        )
