import asyncio
import gc
import os
import signal
from collections.abc import Callable, Mapping

import pytest

from tests.support.virtual import VirtualLoop

# pytest-asyncio gets the current loop before the first test, which creates a loop that is never closed (its issue 724).
# After any call of set_event_loop, even with None, no such loop is created.
asyncio.set_event_loop(None)

# A process that is started in the background may ignore interrupts, and what it starts inherits that. The
# programs under test are to be interrupted as they would be from a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Half of the time tests wait, for sockets, processes and pauses: two processes a core keep it busy."""
    return 2 * (os.cpu_count() or 1)


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests marked `virtual_time` run on a loop whose time jumps; all others on the standard loop."""
    if item.get_closest_marker("virtual_time"):
        return {"virtual": VirtualLoop}
    return {"standard": asyncio.new_event_loop}


def pytest_collection_finish() -> None:
    # What was imported and collected stays to the end: the garbage collector need not go through it again and again.
    gc.collect()
    gc.freeze()
