"""Events of a job as server-sent events: each once and in order, from behind the last that the client has seen.

The rows are the stream: what comes between two connections, or while the gateway is away, is sent at the next one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

import orjson
from starlette.responses import StreamingResponse

from services.gateway.errors import RETRY_AFTER_S, Refusal
from services.gateway.jobs import store
from services.gateway.jobs.shape import describe_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.gateway.jobs.jobs import Jobs
    from services.gateway.jobs.store import RecordedEvent
    from services.gateway.keys.known import KnownKeys

AT_ONCE = 64  # of the connections that clients have
OF_ONE_KEY = 8
HEARTBEAT_S = 15.0  # a write finds out that a client has left without a word
LONGEST_S = 3600.0  # then the client connects again, and its key is checked again
PAGE = 100
HEARTBEAT = b": heartbeat\n"  # no empty line: that ends an event, and parsers dispatch one without data
END = b"data: [DONE]\n\n"


class EventStreams:
    """The streams that are open."""

    def __init__(self, jobs: Jobs, keys: KnownKeys) -> None:
        self._jobs, self._keys = jobs, keys
        self.open: Counter[str | None] = Counter()  # by key

    def respond(self, job: str, seq: int, key: str | None) -> StreamingResponse:
        """The stream of a job from behind event `seq` on, for a client with this key. Raises Refusal where too many are open."""
        if self.open[key] >= OF_ONE_KEY:
            message = f"{OF_ONE_KEY} streams of events of this key are open: end one"
            raise Refusal(429, "rate_limit_exceeded", message, RETRY_AFTER_S)
        if self.open.total() >= AT_ONCE:
            raise Refusal(503, "busy", f"{AT_ONCE} streams of events are open", RETRY_AFTER_S)
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        return StreamingResponse(self._stream(job, seq, key), headers=headers, media_type="text/event-stream")

    async def _stream(self, job: str, seq: int, key: str | None) -> AsyncIterator[bytes]:
        """Send what there is, then what comes; `[DONE]` behind the last event of a job that has ended.

        A key that is revoked meanwhile ends it.
        """
        until = monotonic() + LONGEST_S
        self.open[key] += 1
        try:
            yield HEARTBEAT
            while not self._jobs.closing and monotonic() < until:
                changed = self._jobs.changed
                if self._is_closed_to(key):
                    return
                events, ended = await self._read(job, seq)
                for event in events:
                    seq = event.seq
                    yield _frame(job, event)
                if events:
                    continue
                if ended:
                    yield END
                    return
                if not await _happens(changed, HEARTBEAT_S):
                    yield HEARTBEAT
        finally:
            self.open[key] -= 1

    def _is_closed_to(self, key: str | None) -> bool:
        found = self._keys.find(key) if key else None
        return bool(found and found.find_trouble())

    async def _read(self, job: str, seq: int) -> tuple[list[RecordedEvent], bool]:
        """The next events, and whether the job had ended before they were read; none while the database is away."""
        try:
            async with self._jobs.database() as pool:
                found = await store.get_job(pool, None, job)
                return await store.list_events_after(pool, job, seq, PAGE), bool(found and found.ended_at)
        except Refusal:
            return [], False


async def _happens(event: asyncio.Event, within_s: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            return await event.wait()
    return False


def _frame(job: str, event: RecordedEvent) -> bytes:
    described = describe_event(job, event)
    return b"id: %s\ndata: %s\n\n" % (described["id"].encode(), orjson.dumps(described))
