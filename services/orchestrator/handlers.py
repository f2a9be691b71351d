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
    from shared.runtime.service import Station

log = structlog.get_logger()


async def ritual_cancel(station: Station, command: RitualCancel, _: NatsMessage) -> None:
    """Flag the ritual; the owner of its stage ends it at the next safe point."""
    await ledger.request_cancel(station.pool, command.ritual, command.why)
    station.stir()


async def gpu_reclaim(station: Station, command: GpuReclaim, _: NatsMessage) -> None:
    """Record the reclaim; the next check interrupts the job, which saves a checkpoint, and restores inference."""
    if anvil := _known_anvil(station, command):
        await store.record_reclaim(station.pool, anvil, command.why, command.hold_s)
        log.info("anvil reclaimed", anvil=anvil, why=command.why, hold_s=command.hold_s)
        station.stir()


async def gpu_accept(station: Station, command: GpuAccept, _: NatsMessage) -> None:
    """Accept a contained anvil that answers differently than before; rituals may take it again."""
    if anvil := _known_anvil(station, command):
        await accept(station.pool, anvil, command.why)
        station.stir()


def _known_anvil(station: Station, command: GpuReclaim | GpuAccept) -> str | None:
    """The anvil that a command names, by default the one that trains; None where it is not configured."""
    anvil = command.anvil or station.configuration.forge
    if anvil in station.configuration.anvils:
        return anvil
    known = sorted(station.configuration.anvils)
    log.warning("command ignored: unknown anvil", command=command.subject, anvil=anvil, known=known)
    return None
