"""`watcher run`: the daemon."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from watcher import loop
from watcher.config import LoadedConfiguration, load
from watcher.daemon import run


def execute(arguments: Namespace) -> int:
    """Run until stopped by a signal."""
    file = None if arguments.config is None else Path(arguments.config)

    def read() -> LoadedConfiguration:
        return load(file, os.environ)

    return loop.run(run(read, stay=arguments.stay, linger=arguments.linger))
