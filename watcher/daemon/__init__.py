"""The daemon: everything built from the configuration, every root task named, and an orderly end.

daemon        start, reload, stop; the exit codes
accounts      an account's loop with its client, from the settings
desk          what the listeners answer from
ears          who hears what happens: metrics, log, teller
housekeeping  the small regular duties: pruning, measuring, watching the clock
"""

from watcher.daemon.daemon import Daemon, run

__all__ = ["Daemon", "run"]
