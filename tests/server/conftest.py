import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.server.serving import Office, client_of

# pytest-asyncio asks for the present loop before the first test, which makes one that nobody closes (its issue 724);
# once one was set, be it none, no other is made.
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
