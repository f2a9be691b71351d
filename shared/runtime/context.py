"""The context of a running service: its settings, its connections, and the wake-up of its reconciler."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Annotated

import structlog
from faststream import Context
from nats.aio.client import Client

from shared.config.model import Configuration, embedded
from shared.config.settings import Settings
from shared.contracts.intent import RitualCancelled, TrainingIntent
from shared.contracts.message import Fact, event_id
from shared.messaging.outbox import enqueue
from shared.ritual import ledger
from shared.ritual.ledger import Ritual
from shared.runtime.metrics import FACTS
from shared.storage.postgres import Pool

log = structlog.get_logger()


@dataclass
class ServiceContext:
    """The dependencies that all services have in common, made once at start and passed down."""

    service: str
    settings: Settings
    pool: Pool
    nats: Client
    configuration: Configuration = field(default_factory=embedded)
    door: object = None  #: what `App.open_door` opened
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    reconciled_at: float = field(default_factory=monotonic)

    def wake(self) -> None:
        """Let the reconciler run now instead of after its interval."""
        self.woken.set()

    async def record(
        self, fact: Fact, started_at: datetime, fence: int | None = None, request: TrainingIntent | None = None
    ) -> bool:
        """Record a fact in a transaction of its own; False when the ritual has moved on (see `ledger.record_fact`).

        The intent that follows from it is published with it, or not at all.
        """
        async with self.pool.acquire() as conn, conn.transaction():
            recorded = await ledger.record_fact(conn, fact, self.service, started_at, fence)
            if recorded and request:
                await enqueue(conn, request, event_id(fact.ritual, request.subject, fact.attempt), {})
        if recorded:
            FACTS.labels(fact.subject).inc()
            log.info("fact recorded", fact=fact.subject, ritual=str(fact.ritual), attempt=fact.attempt)
        return recorded

    async def record_cancelled(self, ritual: Ritual) -> bool:
        """Record that a ritual is cancelled; the caller has stopped its work before."""
        fact = RitualCancelled(**ritual.key, why=ritual.cancel_why or "")
        return await self.record(fact, ritual.cancel_requested_at or ritual.entered_at)


InContext = Annotated[ServiceContext, Context("service")]  #: a handler's parameter that FastStream fills in
