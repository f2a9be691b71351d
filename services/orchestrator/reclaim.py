"""The anvil wanted back: the job saves a checkpoint, inference returns, and the ritual waits until the time is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from services.orchestrator import store

if TYPE_CHECKING:
    from shared.contracts.evacuate import GpuReclaim
    from shared.service import Station

log = structlog.get_logger()


async def reclaim(station: Station, command: GpuReclaim) -> None:
    anvil = command.anvil or station.configuration.forge
    if anvil not in station.configuration.anvils:
        log.warning("an unknown anvil is wanted back", anvil=anvil, known=sorted(station.configuration.anvils))
        return
    await store.record_reclaim(station.pool, anvil, command.why, command.hold_s)
    log.info("anvil wanted back", anvil=anvil, why=command.why, hold_s=command.hold_s)
