"""Background loops of a service: one pass, a pause, the next; an error ends the pass, never the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from shared.runtime.metrics import LOOP_ERRORS, LOOP_SECONDS
from shared.storage.postgres import UNREACHABLE

log = structlog.get_logger()


class EndService(BaseException):
    """What a pass raises to end its service; the message has the reason."""


@dataclass(frozen=True)
class Loop:
    """Work that is repeated for as long as the service runs.

    `run` makes one pass and may return the seconds until the next one; default: `every_s`. `woken` starts it early.
    """

    name: str
    run: Callable[[], Awaitable[float | None]]
    every_s: float
    woken: asyncio.Event | None = None


async def repeat(loop: Loop) -> None:
    """Run a loop until it is cancelled. EndService from a pass ends the service."""
    while True:
        if loop.woken:
            loop.woken.clear()
        pause_s = await _pass(loop)
        if loop.woken is None:
            await asyncio.sleep(pause_s)
        else:
            # Not wait_for: in Python 3.11 it loses a cancellation that comes together with the event.
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await loop.woken.wait()


async def _pass(loop: Loop) -> float:
    try:
        with LOOP_SECONDS.labels(loop.name).time():
            pause_s = await loop.run()
    except UNREACHABLE as error:
        LOOP_ERRORS.labels(loop.name).inc()
        log.warning("pass postponed", loop=loop.name, error=str(error) or type(error).__name__)
    except Exception:
        LOOP_ERRORS.labels(loop.name).inc()
        log.exception("pass failed", loop=loop.name)
    else:
        return loop.every_s if pause_s is None else pause_s
    return loop.every_s
