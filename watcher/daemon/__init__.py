"""The daemon: builds everything from the configuration, runs the root tasks, and shuts down in order.

daemon           from start to exit code: signals, standby, and the one runtime
standby          the listeners of a daemon with `--stay` that cannot start
runtime          the running daemon: its root tasks, and the switch to the next configuration
http_listeners   the two listeners and the values that their handlers read
account_loops    the running loops, one per account
accounts         the loop of an account and its client, built from the settings
telemetry        observer of the loops: updates metrics and log, wakes the publisher
housekeeping     small periodic jobs: pruning, measuring, watching the clock
watchdog         a thread that ends the process when the event loop hangs
loop_exceptions  exceptions that reach the event loop, logged once each
process_context  what lives as long as the process, across reloads
"""

from watcher.daemon.daemon import Daemon, run

__all__ = ["Daemon", "run"]
