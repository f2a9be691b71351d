"""Processes beside the harvester's own, for work on many records: each takes its share from the database by itself."""

from __future__ import annotations

import asyncio
import gc
import os
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, TypeVar

from services.harvester.wide import open_wide_pool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from services.harvester.reading.reader import Reader
    from services.harvester.reading.way import Way
    from shared.storage.postgres import Pool

LOOK_S = 0.2
WORTH_PROCESSES = 60_000  # fewer records are done in a thread sooner than a process starts
WORTH_STARTED = 5_000  # the same for processes that stand ready

T = TypeVar("T")


class Workers:
    """Started with their first work, since that takes a second; to be closed by whoever made them."""

    def __init__(self, url: str, way: Way, processes: int) -> None:
        self._url, self._way, self.processes = url, way, processes
        self._context = get_context("spawn")
        self._done = self._context.Value("q", 0)
        self._executor: ProcessPoolExecutor | None = None

    def worth(self, records: int) -> bool:
        return records >= (WORTH_STARTED if self._executor else WORTH_PROCESSES) and self.processes > 1

    async def each(
        self,
        work: Callable[[Reader, Pool, Callable[[int], None], T], Awaitable[None]],
        parts: Iterable[T],
        heard: Callable[[int], Any],
    ) -> None:
        """`work` on every part, in turn in the processes; one that fails fails all. `heard` is told how many are done."""
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                self.processes, self._context, initializer=_begin, initargs=(self._way, self._done, os.getpid())
            )
        self._done.value = 0
        submitted = [self._executor.submit(_do, self._url, work, part) for part in parts]
        running = {asyncio.wrap_future(future) for future in submitted}
        everything = set(running)
        try:
            while running:
                finished, running = await asyncio.wait(running, timeout=LOOK_S, return_when=asyncio.FIRST_EXCEPTION)
                heard(self._done.value)
                for part in finished:
                    part.result()
        finally:
            # What follows a failure must not meet the work of those that have not failed.
            for future in submitted:
                future.cancel()
            await asyncio.to_thread(wait, submitted)
            await asyncio.gather(*everything, return_exceptions=True)

    def close(self) -> None:
        """May be used again afterwards."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None


_reader: Reader | None = None
_done: Any = None
_parent = 0


def _begin(way: Way, done: Any, parent: int) -> None:
    global _reader, _done, _parent
    _reader, _done, _parent = way.reader(), done, parent
    os.nice(5)  # the service answers its health checks meanwhile
    gc.freeze()  # what stands now stays: it is not looked through again and again


def _do(url: str, work: Callable[[Reader, Pool, Callable[[int], None], T], Awaitable[None]], part: T) -> None:
    asyncio.run(_do_with_pool(url, work, part))


async def _do_with_pool(
    url: str, work: Callable[[Reader, Pool, Callable[[int], None], T], Awaitable[None]], part: T
) -> None:
    assert _reader is not None, "the process was not begun"
    pool = await open_wide_pool(url)
    try:
        await work(_reader, pool, _count, part)
    finally:
        await pool.close()


def _count(more: int) -> None:
    if os.getppid() != _parent:
        raise SystemExit("the harvester is gone")
    with _done.get_lock():
        _done.value += more
