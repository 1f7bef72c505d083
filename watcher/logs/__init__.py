"""What is written to standard output: one JSON object a line, or the same for people.

lines   the thread that writes, so that a blocked standard output blocks nothing else
words   events and levels as log lines, through structlog
"""

from watcher.logs.events import EventLog
from watcher.logs.lines import LineWriter

__all__ = ["EventLog", "LineWriter"]
