"""What the orchestrator does with the commands on the bus: record them, and wake the reconciler."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from services.orchestrator import store
from services.orchestrator.containment import accept
from shared.ritual import ledger

if TYPE_CHECKING:
    from faststream.nats import NatsMessage

    from shared.contracts.evacuate import GpuAccept, GpuReclaim
    from shared.contracts.intent import RitualCancel
    from shared.runtime.service import ServiceContext

log = structlog.get_logger()


async def ritual_cancel(context: ServiceContext, command: RitualCancel, _: NatsMessage) -> None:
    """Flag the ritual; the owner of its stage ends it at the next safe point."""
    await ledger.request_cancel(context.pool, command.ritual, command.why)
    context.wake()


async def gpu_reclaim(context: ServiceContext, command: GpuReclaim, _: NatsMessage) -> None:
    """Record the reclaim; the next check interrupts the job, which saves a checkpoint, and restores inference."""
    if anvil := _known_anvil(context, command):
        await store.record_reclaim(context.pool, anvil, command.why, command.hold_s)
        log.info("anvil reclaimed", anvil=anvil, why=command.why, hold_s=command.hold_s)
        context.wake()


async def gpu_accept(context: ServiceContext, command: GpuAccept, _: NatsMessage) -> None:
    """Accept a contained anvil that answers differently than before; rituals may take it again."""
    if anvil := _known_anvil(context, command):
        await accept(context.pool, anvil, command.why)
        context.wake()


def _known_anvil(context: ServiceContext, command: GpuReclaim | GpuAccept) -> str | None:
    """The anvil that a command names, by default the one that trains; None where it is not configured."""
    anvil = command.anvil or context.configuration.forge
    if anvil in context.configuration.anvils:
        return anvil
    known = sorted(context.configuration.anvils)
    log.warning("command ignored: unknown anvil", command=command.subject, anvil=anvil, known=known)
    return None
