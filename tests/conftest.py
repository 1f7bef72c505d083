import asyncio
import gc
import os
import signal

# pytest-asyncio asks for the present loop before the first test, which makes one that nobody closes (its issue 724);
# once one was set, be it none, no other is made.
asyncio.set_event_loop(None)

# Who is started in the background may have been told to ignore interrupts, and hands that on to what it starts. The
# programs under test are to be interrupted as they would be from a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Half of the time tests wait, for sockets, processes and pauses: two processes a core keep it busy."""
    return 2 * (os.cpu_count() or 1)


def pytest_collection_finish() -> None:
    # What was imported and collected stays to the end: the garbage collector need not go through it again and again.
    gc.collect()
    gc.freeze()
