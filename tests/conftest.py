import asyncio
import gc
import os
import signal
from collections.abc import Callable, Mapping

import pytest

from tests.support.virtual import VirtualLoop

# pytest-asyncio asks for the present loop before the first test, which makes one that nobody closes (its issue 724);
# once one was set, be it none, no other is made.
asyncio.set_event_loop(None)

# Who is started in the background may have been told to ignore interrupts, and hands that on to what it starts. The
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
