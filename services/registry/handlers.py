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
    """Make the owner's decision, and announce it; one that is refused also becomes a dead letter with the reason."""
    source = _source_of(message)
    try:
        async with service.pool.acquire() as conn, conn.transaction():
            after = await decide(conn, asked, source)
            if not await store.has_decided(conn, source):
                raise RefusedError(f"{asked.version} is withdrawn already")
            # Announced at once: the asker may wait for it, and a pass of the reconciler may load an adapter first.
            await store.announce_decisions(conn)
    except RefusedError as error:
        async with service.pool.acquire() as conn:
            await store.announce_refusal(conn, asked, source, str(error))
        raise PermanentError(str(error)) from error
    log.info("decided", persona=asked.persona, action=asked.action, version=asked.version, champion=after.champion)
    service.wake()


def _source_of(message: NatsMessage) -> str:
    """The message's id, else its place in the stream: the same at every delivery."""
    given: str | None = message.headers.get("Nats-Msg-Id")
    if given:
        return given
    metadata = message.raw_message.metadata
    return f"{metadata.stream}/{metadata.sequence.stream}@{metadata.timestamp.isoformat()}"


@router.consume(KarmaRecalled)
async def karma_recalled(recall: KarmaRecalled, service: InContext) -> None:
    """Record which rituals are tainted; the reconciler acts on it."""
    async with service.pool.acquire() as conn, conn.transaction():
        await store.record_taint(conn, recall.rituals, recall.karma)
    service.wake()
