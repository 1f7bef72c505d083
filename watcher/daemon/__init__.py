"""The daemon: everything built from the configuration, every root task named, and an orderly end.

daemon        from start to exit code: signals, standing by, and the one running station
standby       listeners of a daemon that cannot start and was told to stay
station       a daemon that runs: its root tasks, and how the next configuration takes over
front         the two listeners, and what they answer from
fleet         the running loops, one an account
accounts      an account's loop with its client, from the settings
ears          who hears what happens: metrics, log, teller
housekeeping  the small regular duties: pruning, measuring, watching the clock
watchdog      the thread that ends a process whose event loop is stuck
complaints    the event loop's own troubles, told calmly
base          what outlives every configuration
"""

from watcher.daemon.daemon import Daemon, run

__all__ = ["Daemon", "run"]
