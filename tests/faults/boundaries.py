"""The boundaries of the store's writes: passing one counts it, or ends the process as a kill would."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

CRASHED = 99


class Boundaries:
    """Counts boundaries and ends the process at one of them."""

    def __init__(self, crash_at: int | None, died: Callable[[], None]) -> None:
        self.crash_at = crash_at
        self.died = died
        self.passed: list[str] = []

    def meet(self, what: str) -> None:
        if len(self.passed) == self.crash_at:
            self.died()
            os._exit(CRASHED)
        self.passed.append(what)


boundaries = Boundaries(None, lambda: None)


class Counting(sqlite3.Connection):
    """A connection whose writes are boundaries."""

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        word = sql.split(maxsplit=1)[0].upper()
        if word == "SELECT" or (word == "PRAGMA" and "=" not in sql and "(" not in sql):
            return super().execute(sql, *values)
        work = _work()
        boundaries.meet(f"{work}: before {word}")
        cursor = super().execute(sql, *values)
        if word == "COMMIT":
            boundaries.meet(f"{work}: after COMMIT")
        return cursor

    def executemany(self, sql: str, rows: Iterable[Any]) -> sqlite3.Cursor:
        rows = list(rows)
        if not rows:
            return super().executemany(sql, rows)
        boundaries.meet(f"{_work()}: before {sql.split(maxsplit=1)[0].upper()}")
        return super().executemany(sql, rows)

    def executescript(self, script: str) -> sqlite3.Cursor:
        cursor = self.cursor()
        for statement in _statements(script):
            word = statement.split(maxsplit=1)[0].upper()
            boundaries.meet(f"{_work()}: before {word}")
            cursor.execute(statement).fetchall()
            if word == "COMMIT":
                boundaries.meet(f"{_work()}: after COMMIT")
        return cursor


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; what lies between them may be comments."""
    statement = ""
    for line in script.splitlines(keepends=True):
        for piece in line.partition("--")[0].split(";"):
            statement += piece + ";"
            bare = statement.strip(" \n;")
            if bare and sqlite3.complete_statement(statement) and line.partition("--")[0].count(";"):
                yield bare
                statement = ""
            else:
                statement = statement[:-1]
    if statement.strip(" \n;"):
        yield statement.strip(" \n;")


def _work() -> str:
    """The piece of the store's work that a statement belongs to."""
    frame: FrameType | None = sys._getframe(2)
    name = "open: settings"
    while frame is not None and frame.f_back is not None:
        module = frame.f_globals["__name__"]
        if module == "watcher.store.sqlite.migrations":
            return "open: migrate"
        if module == "watcher.store.sqlite.pruning" and frame.f_code.co_name == "give_back":
            return "give back"
        if frame.f_code.co_name == "whole":
            return str(frame.f_locals["work"].func.__name__).replace("_", " ")
        frame = frame.f_back
    return name


def connect(*args: Any, **options: Any) -> sqlite3.Connection:
    """`sqlite3.connect`, with boundaries in connections that may write."""
    return real_connect(*args, **options) if options.get("uri") else real_connect(*args, factory=Counting, **options)


real_connect = sqlite3.connect
