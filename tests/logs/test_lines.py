"""Lines through a real pipe: whole and in order, or an error; a reader that does not read blocks nothing."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.logs.piping import Pipe, piped
from watcher.logs import LineWriter
from watcher.logs.lines import QUEUED_AT_MOST

BIG = [b"%06d " % number + b"x" * 992 + b"\n" for number in range(100)]
"""More than any pipe of ours holds: written in many parts."""


async def reading(pipe: Pipe, size: int) -> bytes:
    return await asyncio.to_thread(pipe.read, size)


async def test_lines_are_written_whole_and_in_order_also_when_the_pipe_accepts_little_at_once():
    with piped() as pipe:
        writer = LineWriter(pipe.writing)
        first, second = BIG[:50], BIG[50:]
        tasks = [asyncio.create_task(writer.write(lines)) for lines in (first, second)]
        assert await reading(pipe, 100_000) == b"".join(BIG)
        await asyncio.gather(*tasks)


async def test_a_write_is_done_only_when_the_last_byte_was_accepted():
    with piped() as pipe:
        writer = LineWriter(pipe.writing)
        task = asyncio.create_task(writer.write([b"x" * 8191 + b"\n"]))
        assert await reading(pipe, 4095) == b"x" * 4095
        assert not task.done()
        # The rest does not fit into the pipe at once, so the writer is still at it.
        await reading(pipe, 4097)
        await task


async def test_a_blocked_output_blocks_neither_the_loop_nor_what_is_dropped_in():
    with piped() as pipe:
        writer = LineWriter(pipe.writing)
        task = asyncio.create_task(writer.write(BIG))
        first = await reading(pipe, 1)  # the thread has taken the big write out of the queue and is stuck in it
        for number in range(QUEUED_AT_MOST + 50):
            writer.drop_in(b"%04d\n" % number)
        assert writer.dropped == 50
        assert not task.done()
        assert not writer.drain(0.01)
        written = first + await reading(pipe, 99_999 + QUEUED_AT_MOST * 5)
        await task
        assert written == b"".join(BIG) + b"".join(b"%04d\n" % number for number in range(QUEUED_AT_MOST))
        assert await asyncio.to_thread(writer.drain, 5)


async def test_a_closed_output_is_an_error_each_time_and_the_writer_lives_on():
    with piped() as pipe:
        writer = LineWriter(pipe.writing)
        pipe.close_reading()
        for _ in range(2):
            with pytest.raises(BrokenPipeError):
                await writer.write([b"a line\n"])
        writer.drop_in(b"written nowhere\n")
        assert writer.drain(5)


async def test_a_line_that_was_torn_does_not_spoil_the_next_one():
    with piped() as pipe, piped() as other:
        writer = LineWriter(pipe.writing)
        task = asyncio.create_task(writer.write(BIG))
        await reading(pipe, 10_100)
        pipe.close_reading()
        with pytest.raises(BrokenPipeError):
            await task
        os.dup2(other.writing, pipe.writing)
        await writer.write([b"written again\n"])
        await writer.write([b"and on\n"])
        assert await reading(other, 22) == b"\nwritten again\nand on\n"


async def test_a_non_blocking_output_is_waited_for():
    with piped() as pipe:
        os.set_blocking(pipe.writing, False)
        writer = LineWriter(pipe.writing)
        task = asyncio.create_task(writer.write(BIG))
        assert await reading(pipe, 100_000) == b"".join(BIG)
        await task


async def test_a_cancelled_write_to_a_blocked_output_does_not_disturb_later_writes():
    with piped() as pipe:
        writer = LineWriter(pipe.writing)
        task = asyncio.create_task(writer.write(BIG))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert await reading(pipe, 100_000) == b"".join(BIG)
        await writer.write([b"the next\n"])
        assert await reading(pipe, 9) == b"the next\n"


def test_a_loop_that_ended_meanwhile_does_not_stop_the_writer():
    with piped() as pipe:
        writer = LineWriter(pipe.writing)

        async def give_up() -> None:
            task = asyncio.create_task(writer.write(BIG))
            await asyncio.sleep(0)
            task.cancel()

        asyncio.run(give_up())
        assert pipe.read(100_000) == b"".join(BIG)
        assert writer.drain(5)


def test_there_is_nothing_to_drain_where_nothing_was_written():
    assert LineWriter(1).drain(0)
