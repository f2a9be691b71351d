"""A service ends although one of its tasks does not hear the first word."""

from __future__ import annotations

import asyncio

from shared.runtime.service import _end


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again() -> None:
    heard = 0

    async def deaf() -> None:
        nonlocal heard
        while heard < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                heard += 1

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await _end([task])

    assert task.done()
    assert heard == 2
