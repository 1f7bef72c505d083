import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.server.serving import AppParts, client_of

# pytest-asyncio gets the current loop before the first test, which creates a loop that is never closed (its issue 724).
# After any call of set_event_loop, even with None, no such loop is created.
asyncio.set_event_loop(None)


@pytest.fixture
def parts() -> AppParts:
    return AppParts()


@pytest.fixture
async def web(parts: AppParts) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(parts.web()) as client:
        yield client


@pytest.fixture
async def admin(parts: AppParts) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(parts.admin()) as client:
        yield client
