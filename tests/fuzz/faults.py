"""Faults at awaited calls: which are armed, which fired, and where a call was ever reached."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import asyncpg
import structlog
from nats.errors import Error as NatsError


class Kind(StrEnum):
    """What a call raises; STOP ends the service in the middle of the call, as SIGTERM does."""

    DATA = "DataError"
    OS = "OSError"
    VALUE = "ValueError"
    TIMEOUT = "TimeoutError"
    INTERFACE = "InterfaceError"
    NATS = "NatsError"
    STOP = "CancelledError"


MADE: dict[Kind, Callable[[], Exception]] = {
    Kind.DATA: lambda: asyncpg.DataError("injected: invalid byte sequence"),
    Kind.OS: lambda: OSError(errno.EIO, "injected: input/output error"),
    Kind.VALUE: lambda: ValueError("injected: no such value"),
    Kind.TIMEOUT: lambda: TimeoutError("injected: too late"),
    Kind.INTERFACE: lambda: asyncpg.InterfaceError("injected: connection is closed"),
    Kind.NATS: lambda: NatsError("injected: no bus"),
}


class Moment(StrEnum):
    """When a call fails: before anything was done, or after all of it was."""

    EARLY = "early"
    LATE = "late"


@dataclass
class Fault:
    """A fault at one site. `ritual`: only while that one is worked on; `times`: how often it fires."""

    site: str
    kind: Kind
    moment: Moment
    times: int = 1
    ritual: str | None = None
    fired: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.moment} at {self.site}"


STOP_S = 1.0

sites: list[str] = []  #: every call that can fail
reached: dict[str, bool] = {}  #: those that ran: whether always in the work on one ritual
service: ContextVar[str] = ContextVar("service", default="")
_stoppers: list[Callable[[str], None]] = []
_armed: dict[str, list[Fault]] = {}


def on_stop(stop: Callable[[str], None]) -> None:
    """What ends a service by its name."""
    _stoppers[:] = [stop]


def declare(site: str) -> str:
    sites.append(site)
    return site


def arm(*faults: Fault) -> None:
    for fault in faults:
        _armed.setdefault(fault.site, []).append(fault)


def disarm() -> None:
    _armed.clear()


async def at(site: str, awaitable: Any) -> Any:
    """Await a call, or fail before or after it."""
    if fault := _due(site, Moment.EARLY):
        if isinstance(awaitable, Coroutine):
            awaitable.close()
        await _fire(fault)
    result = await awaitable
    if fault := _due(site, Moment.LATE):
        await _fire(fault)
    return result


@asynccontextmanager
async def entering(site: str, manager: AbstractAsyncContextManager[Any]) -> AsyncIterator[Any]:
    """Enter and leave a context, or fail before it is entered or in its last moment."""
    if fault := _due(site, Moment.EARLY):
        await _fire(fault)
    async with manager as entered:
        yield entered
        if fault := _due(site, Moment.LATE):
            await _fire(fault)


async def each(site: str, iterator: Any) -> AsyncIterator[Any]:
    """Iterate, or fail before the first item or after the last."""
    if fault := _due(site, Moment.EARLY):
        await _fire(fault)
    async for item in iterator:
        yield item
    if fault := _due(site, Moment.LATE):
        await _fire(fault)


def _due(site: str, moment: Moment) -> Fault | None:
    """The armed fault that is to fire here now; none in what the test itself calls."""
    if not service.get():
        return None
    ritual = structlog.contextvars.get_contextvars().get("ritual")
    reached[site] = reached.get(site, True) and ritual is not None
    for fault in _armed.get(site, ()):
        if fault.moment is moment and fault.fired < fault.times and fault.ritual in (None, ritual):
            fault.fired += 1
            return fault
    return None


async def _fire(fault: Fault) -> None:
    if fault.kind is not Kind.STOP:
        raise MADE[fault.kind]()
    for stop in _stoppers:
        stop(service.get())
    await asyncio.sleep(STOP_S)  # the cancellation arrives here; a handler may finish its message
