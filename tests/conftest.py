import asyncio
import signal

# pytest-asyncio asks for the present loop before the first test, which makes one that nobody closes (its issue 724);
# once one was set, be it none, no other is made.
asyncio.set_event_loop(None)

# Who is started in the background may have been told to ignore interrupts, and hands that on to what it starts. The
# programs under test are to be interrupted as they would be from a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)
