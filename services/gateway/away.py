"""What a request does while no engine can answer it: wait in a bounded queue, up to a deadline, until one can."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from services.gateway.errors import RETRY_AFTER_S, Refusal
from services.gateway.metrics import WAITING

if TYPE_CHECKING:
    from services.gateway.engines import Engine, Engines
    from services.gateway.settings import GatewaySettings


class Away(Exception):
    """No engine can answer a request now. `refusal` is what its client gets unless something else is done.

    `closed`: the engine whose gate opens first; None where one is open.
    """

    def __init__(self, refusal: Refusal, closed: Engine | None, sent: bool = False) -> None:
        super().__init__(str(refusal))
        self.refusal, self.closed = refusal, closed
        self.passes = refusal.retry_after_s is not None  #: the same request may succeed later
        # What an engine ended on is not sent to the next one that starts: it may end on it too.
        self.may_wait = self.passes and not sent

    @property
    def expected_s(self) -> float:
        """Seconds until an engine is expected; 0 where that is not known."""
        closed = self.closed.closed if self.closed else None
        return closed.left_s() if closed else 0.0

    def refuse(self) -> Refusal:
        """Count the request as refused, and return what to answer."""
        if self.closed:
            self.closed.gate.count_refused()
        return self.refusal


class Queue:
    """The requests that wait, of all bases together."""

    def __init__(self, limits: GatewaySettings, engines: Engines) -> None:
        self._places, self._wait_s, self._engines = limits.waiting, limits.wait_s, engines
        self.waiting: Counter[str] = Counter()  #: by base

    def deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._wait_s

    @contextmanager
    def place(self, base: str) -> Iterator[None]:
        """A place in the queue until the block ends. Raises Refusal where none is left."""
        if self.waiting.total() >= self._places:
            raise Refusal(503, "busy", "too many requests wait for an engine", RETRY_AFTER_S)
        self._count(base, 1)
        try:
            yield
        finally:
            self._count(base, -1)

    async def wait(self, find_away: Callable[[], Away | None], deadline: float) -> None:
        """Wait until no engine is away. Raises Refusal at the deadline, or at once where none is expected before it."""
        while away := find_away():
            left_s = deadline - asyncio.get_running_loop().time()
            if not away.may_wait or max(away.expected_s, 0.001) > left_s:
                raise away.refuse()
            changed = self._engines.changed
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await changed.wait()

    def _count(self, base: str, change: int) -> None:
        self.waiting[base] += change
        WAITING.labels(base).set(self.waiting[base])
