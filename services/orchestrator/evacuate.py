"""Evacuation: announce, stop the rune, prove by measurement that its memory is free, then hand the anvil over.

Every step may be repeated: a crash between any two is taken up again from the rows while the lease lives.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid5

from services.orchestrator import store
from shared import lease
from shared.contracts.evacuate import GpuEvacuated, GpuRefused, InferenceSuspended
from shared.outbox import enqueue

if TYPE_CHECKING:
    from services.orchestrator.anvil import Anvil
    from shared.lease import Lease
    from shared.ledger import Ritual

POLL_S = 0.25


async def evacuate(anvil: Anvil, ritual: Ritual, held: Lease) -> bool:
    """Bring the anvil from serving to `gpu.evacuated`, or to `gpu.refused`. False when the lease was lost on the way."""
    if not await _suspend(anvil, ritual, held):
        return False
    await anvil.rune.stop()
    used = await _memory_falls(anvil)
    if used > anvil.own.free_below_bytes:
        return await _refuse(anvil, ritual, used)
    await anvil.rune.forget()
    return await _hand_over(anvil, ritual, held, used)


async def _suspend(anvil: Anvil, ritual: Ritual, held: Lease) -> bool:
    """Tell the rest of the house before inference goes down; false when the lease is gone."""
    station = anvil.station
    if not (await lease.renew(station.pool, held.anvil, held.fence, station.settings.lease_ttl_s)).held:
        return False
    used = await anvil.accelerator.used_bytes()
    models = tuple(sorted(await anvil.models()))
    async with station.pool.acquire() as conn, conn.transaction():
        if await store.suspend(conn, held.anvil, held.fence, used):
            said = InferenceSuspended(
                anvil=held.anvil, ritual=ritual.id, reason=f"training {ritual.persona}", models=models
            )
            await enqueue(conn, said, uuid5(ritual.id, f"{said.subject}/{held.fence}"), {})
    return True


async def _memory_falls(anvil: Anvil) -> int:
    """Used bytes once they are under the threshold, or when the time for that is over."""
    deadline = monotonic() + anvil.own.free_within_s
    while (used := await anvil.accelerator.used_bytes()) > anvil.own.free_below_bytes and monotonic() < deadline:
        await asyncio.sleep(POLL_S)
    return used


async def _refuse(anvil: Anvil, ritual: Ritual, used: int) -> bool:
    limit = anvil.own.free_below_bytes
    reason = f"{used} bytes are still in use after the rune was stopped, {limit} is the limit: find who holds them and intend again"
    refused = GpuRefused(
        ritual=ritual.id,
        persona=ritual.persona,
        attempt=ritual.attempt,
        anvil=anvil.station.settings.anvil,
        reason=reason,
    )
    await anvil.station.state(refused, ritual.entered_at)
    return True


async def _hand_over(anvil: Anvil, ritual: Ritual, held: Lease, used: int) -> bool:
    station = anvil.station
    if not (await lease.renew(station.pool, held.anvil, held.fence, station.settings.lease_ttl_s)).held:
        return False
    began_at = await store.began_at(station.pool, held.anvil, held.fence)
    fact = GpuEvacuated(
        ritual=ritual.id,
        persona=ritual.persona,
        attempt=ritual.attempt,
        anvil=held.anvil,
        fence=held.fence,
        memory_before=await store.memory_before(station.pool, held.anvil, held.fence),
        memory_after=used,
        device=anvil.accelerator.description,
    )
    async with station.pool.acquire() as conn, conn.transaction():
        await store.evacuated(conn, held.anvil, held.fence, used)
    return await station.state(fact, began_at, held.fence)
