"""A background loop goes on after whatever a pass raises, and ends when its service does."""

from __future__ import annotations

import asyncio

import pytest

from shared.runtime.loops import Loop, repeat

WITHIN_S = 5


@pytest.mark.parametrize("error", [ConnectionRefusedError(), TimeoutError(), ValueError("a fault of ours")])
async def test_a_pass_that_fails_is_followed_by_the_next(error: Exception) -> None:
    passes = 0
    over = asyncio.Event()

    async def fail_once() -> None:
        nonlocal passes
        passes += 1
        if passes == 1:
            raise error
        over.set()

    task = asyncio.create_task(repeat(Loop("test", fail_once, every_s=0.01)))
    await asyncio.wait_for(over.wait(), WITHIN_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_pass_decides_when_the_next_begins_and_an_event_begins_it_early() -> None:
    passes: list[int] = []
    woken = asyncio.Event()

    async def hour_long() -> float:
        passes.append(1)
        return 3600

    task = asyncio.create_task(repeat(Loop("test", hour_long, every_s=0.01, woken=woken)))
    for number in (1, 2):
        async with asyncio.timeout(WITHIN_S):
            while len(passes) < number:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert len(passes) == number
        woken.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
