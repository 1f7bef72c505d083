import asyncio

# See tests/server/conftest.py: pytest-asyncio would otherwise make a loop that is never closed (its issue 724).
asyncio.set_event_loop(None)
