"""Handlers of the registry: facts that give it work, and recalls of karma that adapters were trained on."""

from __future__ import annotations

import structlog
from faststream.nats.annotations import NatsMessage

from services.registry import store
from services.registry.decisions import RefusedError, decide
from shared.contracts.evacuate import GpuRestored
from shared.contracts.karma import KarmaRecalled
from shared.contracts.message import Fact
from shared.contracts.registry import AdapterDecide, AdapterProposed, AdapterRegistered
from shared.contracts.verify import AdapterVerified
from shared.messaging.router import PermanentError, Router
from shared.runtime.context import InContext

log = structlog.get_logger()
router = Router("registry")


@router.consume(AdapterVerified, AdapterRegistered, AdapterProposed, GpuRestored)
async def wake(fact: Fact, service: InContext) -> None:
    service.wake()


@router.consume(AdapterDecide)
async def adapter_decide(asked: AdapterDecide, message: NatsMessage, service: InContext) -> None:
    """Make the owner's decision; one that is refused becomes a dead letter with the reason."""
    metadata = message.raw_message.metadata
    source = f"{metadata.stream}/{metadata.sequence.stream}@{metadata.timestamp.isoformat()}"
    try:
        async with service.pool.acquire() as conn, conn.transaction():
            after = await decide(conn, asked, source)
    except RefusedError as error:
        raise PermanentError(str(error)) from error
    log.info("decided", persona=asked.persona, action=asked.action, version=asked.version, champion=after.champion)
    service.wake()


@router.consume(KarmaRecalled)
async def karma_recalled(recall: KarmaRecalled, service: InContext) -> None:
    """Record which rituals are tainted; the reconciler acts on it."""
    async with service.pool.acquire() as conn, conn.transaction():
        await store.record_taint(conn, recall.rituals, recall.karma)
    service.wake()
