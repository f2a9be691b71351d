"""The gate of each engine: it admits or refuses requests, counts those in flight, and ends them on command.

Closed until it is opened: an engine that was not proven yet must not answer. Its state is kept on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

from pydantic import Field

from services.gateway.closed import Closed
from services.gateway.errors import Refusal
from services.gateway.kept import Kept
from shared.asgi.replies import ABORTED
from shared.contracts.frozen import Frozen

if TYPE_CHECKING:
    from pathlib import Path

    from services.gateway.in_flight import InFlight

END_WITHIN_S = 3.0
UNPROVEN = "starting: not yet proven"
HELD = "a ritual holds its anvil"
UNPROVEN_S = HELD_S = 30.0
QUIET_S = 2.0  # without a request before one of low priority is admitted: somebody may be in the middle of something


class KeptGates(Frozen):
    """Every gate as it was commanded last; None: open."""

    closed: dict[str, Closed | None] = Field(default_factory=dict)


class Gate:
    """The gate of one engine."""

    def __init__(self, rune: str, closed: Closed | None) -> None:
        self.rune, self.closed = rune, closed
        self.commanded = False  #: since this process started
        self.requests: set[InFlight] = set()
        self.admitted = self.refused = self.refused_since = self.ended = 0  #: without those of low priority
        self._left_at = -QUIET_S

    def admit(self, request: InFlight) -> None:
        """Count a request until `leave`. Raises Refusal for one of low priority while there are others."""
        if request.yields:
            if self.asked or monotonic() - self._left_at < QUIET_S:
                raise _yield()
        else:
            self.admitted += 1
            self._end_yielding()
        self.requests.add(request)

    def leave(self, request: InFlight) -> None:
        self.requests.discard(request)
        if not request.yields:
            self._left_at = monotonic()

    @property
    def asked(self) -> int:
        """The requests in flight without those of low priority."""
        return sum(not request.yields for request in self.requests)

    def _end_yielding(self) -> None:
        for request in self.requests:
            if request.yields:
                request.end(_yield())

    def count_refused(self) -> None:
        self.refused += 1
        self.refused_since += bool(self.closed)

    def close(self, reason: str, retry_after_s: float) -> None:
        now = datetime.now(UTC)
        if self.closed is None:
            self.refused_since = 0
        since = self.closed.since if self.closed else now
        self.closed = Closed(reason=reason, retry_after_s=retry_after_s, since=since, commanded_at=now)
        self._end_yielding()

    async def end_requests(self) -> int:
        """End the requests in flight and return how many, once they are gone or END_WITHIN_S is over."""
        reason = self.closed.reason if self.closed else "ended by the operator"
        retry_after_s = self.closed.left_s() if self.closed else 1.0
        why = Refusal(503, ABORTED, f"ended before it was complete: {reason}", retry_after_s)
        ended = {request for request in self.requests if request.end(why)}
        self.ended += len(ended)
        await until(lambda: not ended & self.requests, END_WITHIN_S)
        return len(ended)

    def state(self) -> dict[str, Any]:
        closed = self.closed
        return {
            "state": "closed" if closed else "open",
            "reason": closed.reason if closed else None,
            "since": closed.since.isoformat() if closed else None,
            "retry_after_s": closed.retry_after_s if closed else None,
            "in_flight": len(self.requests),
            "low_priority": len(self.requests) - self.asked,
            "refused": self.refused_since if closed else 0,
            "refused_total": self.refused,
            "admitted_total": self.admitted,
            "aborted_total": self.ended,
        }


class Gates:
    """Every engine's gate."""

    def __init__(self, home: Path, runes: Collection[str]) -> None:
        self._file = Kept(home, "gates", KeptGates())
        known = self._file.read().closed
        self.by_rune = {rune: Gate(rune, known[rune] if rune in known else _unproven()) for rune in runes}
        self.changed: Callable[[], None] = lambda: None

    async def close(self, rune: str, reason: str, retry_after_s: float) -> Gate:
        """Admit no request from now on; returns once a restart knows it too."""
        gate = self.by_rune[rune]
        known = gate.closed and gate.closed.reason == reason
        gate.close(reason, retry_after_s)
        gate.commanded = True
        self.changed()
        if not known or self._file.behind:
            await self._keep()
        return gate

    async def open(self, rune: str) -> Gate:
        gate = self.by_rune[rune]
        was_closed, gate.closed, gate.commanded = gate.closed, None, True
        if was_closed:
            self.changed()
        if was_closed or self._file.behind:
            await self._keep()
        return gate

    async def close_held(self, held: Collection[str]) -> None:
        """Close the engines whose anvils are held, unless they were commanded since the start: a close may have been missed."""
        missed = [
            gate for gate in self.by_rune.values() if gate.rune in held and not gate.commanded and not gate.closed
        ]
        for gate in missed:
            gate.close(HELD, HELD_S)
        if missed:
            self.changed()
            await self._keep()

    async def _keep(self) -> None:
        await self._file.write(KeptGates(closed={rune: gate.closed for rune, gate in self.by_rune.items()}))


def _yield() -> Refusal:
    return Refusal(503, "busy", "others ask this engine: a request of low priority waits for a quiet moment", QUIET_S)


def _unproven() -> Closed:
    now = datetime.now(UTC)
    return Closed(reason=UNPROVEN, retry_after_s=UNPROVEN_S, since=now, commanded_at=now)


async def until(done: Callable[[], bool], within_s: float) -> None:
    """Wait until `done`, at most so long."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not done() and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.01)
