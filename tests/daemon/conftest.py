import asyncio

# See tests/server/conftest.py: pytest-asyncio would otherwise make a loop that nobody closes (its issue 724).
asyncio.set_event_loop(None)
