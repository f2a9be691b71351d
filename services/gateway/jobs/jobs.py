"""The fine-tuning jobs of the gateway: one place that changes them, and announces each change to who follows one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from services.gateway.jobs import store
from services.gateway.store import database

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from services.gateway.jobs.store import Event
    from shared.runtime.context import ServiceContext
    from shared.storage.postgres import Pool


class Jobs:
    """`changed`: set, and replaced, when an event is recorded; `woken`: a job is to be looked at now; `closing`: end all streams."""

    def __init__(self) -> None:
        self._context: ServiceContext | None = None
        self.changed, self.woken = asyncio.Event(), asyncio.Event()
        self.closing = False

    def connect(self, context: ServiceContext) -> None:
        """Use the connections of this context, which are there only once the database and the bus are."""
        self._context = context

    def database(self) -> AbstractAsyncContextManager[Pool]:
        """The database, for the statements of one request. Raises Refusal where it does not answer."""
        return database(self._context)

    def close(self) -> None:
        self.closing = True
        self.announce()

    def announce(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    async def record(self, id: str, *events: Event, **changes: Any) -> bool:
        """Record events of a job that has not ended, and change columns of it; False where it has."""
        assert self._context, "only the reconciler records"
        async with self._context.pool.acquire() as conn, conn.transaction():
            job = await store.lock_open(conn, id)
            if job:
                await store.change(conn, job, events, changes)
        self.announce()
        return job is not None
