"""Requests wait for permits, and begin as soon as a permit is available."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.virtual import virtual_clock
from watcher.api import Gate
from watcher.core.governor import AttemptResult, Governor, Share
from watcher.core.model import SECOND


def a_gate(*, per_second: float = 100, concurrency: int = 1) -> Gate:
    clock = virtual_clock()
    return Gate(Governor(Share(per_second=per_second, concurrency=concurrency), clock.now().tick), clock.now)


@pytest.mark.virtual_time
async def test_permits_come_no_faster_than_the_rate():
    gate = a_gate(per_second=2, concurrency=100)
    began = []
    for _ in range(5):
        await gate.enter()
        began.append(asyncio.get_running_loop().time() - 1000)
    assert began == [0, 0.5, 1, 1.5, 2]


@pytest.mark.virtual_time
async def test_requests_that_wait_for_a_permit_begin_one_after_the_other():
    gate = a_gate()
    permit = await gate.enter()
    waiting = [asyncio.create_task(gate.enter()) for _ in range(2)]
    await asyncio.sleep(3600)
    assert not any(task.done() for task in waiting)
    for _ in range(2):
        gate.leave(permit, AttemptResult.GOOD)
        (done,), waiting_set = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        permit, waiting = done.result(), list(waiting_set)
    assert waiting == []
    assert gate.governor.under_way == 1


@pytest.mark.virtual_time
async def test_a_hold_is_waited_out():
    gate = a_gate()
    assert gate.hold() == 0
    gate.leave(await gate.enter(), AttemptResult.THROTTLED, 10 * SECOND)
    assert 10 * SECOND <= gate.hold() <= 11 * SECOND
    before = asyncio.get_running_loop().time()
    held = gate.hold() / SECOND
    await gate.enter()
    assert asyncio.get_running_loop().time() - before == pytest.approx(held, abs=0.001)
    assert gate.hold() == 0


@pytest.mark.virtual_time
async def test_new_credentials_end_the_hold_for_the_old_ones_at_once():
    gate = a_gate()
    gate.leave(await gate.enter(), AttemptResult.UNAUTHORIZED)
    waiting = asyncio.create_task(gate.enter())
    await asyncio.sleep(5)
    assert gate.hold() == 25 * SECOND
    gate.forgive()
    assert gate.hold() == 0
    before = asyncio.get_running_loop().time()
    await waiting
    assert asyncio.get_running_loop().time() == before
