"""Handlers of the orchestrator: every fact of a ritual, which may change what an anvil needs, and commands about anvils."""

from __future__ import annotations

import structlog
from faststream.nats.annotations import NatsMessage

from services.orchestrator import store
from services.orchestrator.containment import accept
from shared.contracts.evacuate import GpuAccept, GpuReclaim
from shared.contracts.intent import RitualCancel
from shared.contracts.message import Fact
from shared.contracts.ritual import FACTS
from shared.messaging.router import Router
from shared.ritual import ledger
from shared.runtime.context import InContext, ServiceContext

log = structlog.get_logger()
router = Router("orchestrator")


@router.consume(*FACTS)
async def wake(fact: Fact, service: InContext) -> None:
    service.wake()


@router.consume(RitualCancel)
async def ritual_cancel(command: RitualCancel, service: InContext) -> None:
    """Flag the ritual; the owner of its stage ends it at the next safe point."""
    await ledger.request_cancel(service.pool, command.ritual, command.why)
    service.wake()


@router.consume(GpuReclaim)
async def gpu_reclaim(command: GpuReclaim, message: NatsMessage, service: InContext) -> None:
    """Record the reclaim; the next check interrupts the job, which saves a checkpoint, and restores inference."""
    if anvil := _known_anvil(service, command):
        published_at = message.raw_message.metadata.timestamp
        counts = await store.record_reclaim(service.pool, anvil, command.why, command.hold_s, published_at)
        event = "anvil reclaimed" if counts else "reclaim ignored: it or a newer one is recorded"
        log.info(event, anvil=anvil, why=command.why, hold_s=command.hold_s)
        service.wake()


@router.consume(GpuAccept)
async def gpu_accept(command: GpuAccept, service: InContext) -> None:
    """Accept a contained anvil that answers differently than before; rituals may take it again."""
    if anvil := _known_anvil(service, command):
        await accept(service.pool, anvil, command.why)
        service.wake()


def _known_anvil(context: ServiceContext, command: GpuReclaim | GpuAccept) -> str | None:
    """The anvil that a command names, by default the one that trains; None where it is not configured."""
    anvil = command.anvil or context.configuration.forge
    if anvil in context.configuration.anvils:
        return anvil
    known = sorted(context.configuration.anvils)
    log.warning("command ignored: unknown anvil", command=command.subject, anvil=anvil, known=known)
    return None
