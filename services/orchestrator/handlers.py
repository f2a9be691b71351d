"""Handlers of the orchestrator: every fact of a ritual, which may change what an anvil needs, and commands about anvils."""

from __future__ import annotations

from datetime import datetime

import structlog
from faststream.nats.annotations import NatsMessage

from services.orchestrator import store
from services.orchestrator.containment import accept
from shared.contracts.evacuate import GpuAccept, GpuReclaim
from shared.contracts.intent import RitualCancel, RitualPause, RitualResume
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


@router.consume(RitualPause)
async def ritual_pause(command: RitualPause, message: NatsMessage, service: InContext) -> None:
    """Flag the ritual; the next check interrupts its job, which saves a checkpoint, and restores inference."""
    why = " ".join(filter(None, [command.why, f"(by {command.by})" if command.by else ""]))
    counts = await ledger.request_pause(service.pool, command.ritual, why, _published_at(message))
    event = "ritual paused" if counts else "pause ignored: the ritual needs no anvil, or a newer command is recorded"
    log.info(event, ritual=str(command.ritual), why=command.why, by=command.by)
    service.wake()


@router.consume(RitualResume)
async def ritual_resume(command: RitualResume, message: NatsMessage, service: InContext) -> None:
    """Clear the flag; the ritual waits for the anvil again, and continues from its checkpoint."""
    counts = await ledger.request_resume(service.pool, command.ritual, _published_at(message))
    event = "ritual resumed" if counts else "resume ignored: the ritual has ended, or a newer command is recorded"
    log.info(event, ritual=str(command.ritual), why=command.why, by=command.by)
    service.wake()


@router.consume(GpuReclaim)
async def gpu_reclaim(command: GpuReclaim, message: NatsMessage, service: InContext) -> None:
    """Record the reclaim; the next check interrupts the job, which saves a checkpoint, and restores inference."""
    if anvil := _known_anvil(service, command):
        counts = await store.record_reclaim(service.pool, anvil, command.why, command.hold_s, _published_at(message))
        event = "anvil reclaimed" if counts else "reclaim ignored: it or a newer one is recorded"
        log.info(event, anvil=anvil, why=command.why, hold_s=command.hold_s)
        service.wake()


@router.consume(GpuAccept)
async def gpu_accept(command: GpuAccept, service: InContext) -> None:
    """Accept a contained anvil that answers differently than before; rituals may take it again."""
    if anvil := _known_anvil(service, command):
        await accept(service.pool, anvil, command.why)
        service.wake()


def _published_at(message: NatsMessage) -> datetime:
    return message.raw_message.metadata.timestamp


def _known_anvil(context: ServiceContext, command: GpuReclaim | GpuAccept) -> str | None:
    """The anvil that a command names, by default the one that trains; None where it is not configured."""
    anvil = command.anvil or context.configuration.forge
    if anvil in context.configuration.anvils:
        return anvil
    known = sorted(context.configuration.anvils)
    log.warning("command ignored: unknown anvil", command=command.subject, anvil=anvil, known=known)
    return None
