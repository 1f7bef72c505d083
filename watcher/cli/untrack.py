"""`watcher untrack`: makes a running daemon stop tracking operations."""

from __future__ import annotations

from argparse import Namespace

from watcher.cli.admin_client import RefusedError, daemon
from watcher.cli.exits import Exit
from watcher.cli.ids import read_ids
from watcher.cli.output import say, warn


def execute(arguments: Namespace) -> int:
    """Untrack all ids. An id that is not tracked is reported, and the others are untracked all the same."""
    code = Exit.GOOD
    ids = read_ids(arguments.ids)
    with daemon(arguments) as found:
        for one in ids:
            try:
                found.ask("DELETE", f"/api/v1/operations/{one}", query={"account": arguments.account})
            except RefusedError as exc:
                if exc.code is not Exit.ENDED_BADLY:
                    raise
                warn(f"watcher untrack: {one} is not tracked")
                code = Exit.ENDED_BADLY
            else:
                say(f"{one} untracked")
    return code
