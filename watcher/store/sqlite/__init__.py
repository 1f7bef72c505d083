"""The daemon's store: one SQLite file, one process, one thread.

store       the `Store`: every method is one piece of work for the thread
database    the connection: opens, checks and reopens it, and translates its errors
lock        one process per file
identity    which files were opened
migrations  `schema/NNNN_….sql`, each one version
intake, progress, counting, outbox, reading, pruning    the pieces of work, functions of a connection
rows        values to columns and back
"""

from watcher.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
