"""Log lines on standard output: one JSON object per line, or the same content in a form for people.

lines   the thread that writes, so that a blocked standard output blocks nothing else
events  events and levels as log lines, through structlog
"""

from watcher.logs.events import EventLog
from watcher.logs.lines import LineWriter

__all__ = ["EventLog", "LineWriter"]
