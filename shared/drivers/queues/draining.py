"""Wait until a queue has drained, or the grace is over; the same for every driver."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

POLL_S = 0.25


async def drained(running: Callable[[], Awaitable[tuple[str, ...]]], grace_s: float) -> tuple[str, ...]:
    """Return what `running` still names after `grace_s`, or empty as soon as it names nothing. Calls it at least once."""
    deadline = monotonic() + grace_s
    while left := await running():
        if monotonic() >= deadline:
            break
        await asyncio.sleep(min(POLL_S, max(0.0, deadline - monotonic())))
    return left
