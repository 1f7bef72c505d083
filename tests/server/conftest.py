import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.server.serving import Office, client_of

# pytest-asyncio gets the current loop before the first test, which creates a loop that is never closed (its issue 724).
# After any call of set_event_loop, even with None, no such loop is created.
asyncio.set_event_loop(None)


@pytest.fixture
def office() -> Office:
    return Office()


@pytest.fixture
async def web(office: Office) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(office.web()) as client:
        yield client


@pytest.fixture
async def admin(office: Office) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(office.admin()) as client:
        yield client
