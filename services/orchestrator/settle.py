"""What to do about a held anvil: go on evacuating, leave the work alone, or take it back.

Taking back is physical: the jobs are killed and proven gone, the memory is measured, and only then the lease is freed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog

from services.orchestrator import store
from services.orchestrator.evacuate import evacuate
from shared import lease, ledger
from shared.contracts.evacuate import GpuInterrupted
from shared.contracts.forge import AdapterFailed
from shared.contracts.ritual import HOLDS_ANVIL, State

if TYPE_CHECKING:
    from services.orchestrator.anvil import Anvil
    from shared.contracts.message import Fact
    from shared.lease import Lease
    from shared.ledger import Ritual

log = structlog.get_logger()


class Step(StrEnum):
    """What a held anvil needs."""

    EVACUATE = "evacuate"
    LEAVE = "leave"
    INTERRUPT = "interrupt"
    TAKE_BACK = "take_back"


def decide(held: Lease, ritual: Ritual) -> Step:
    """Pure: what a held anvil needs, from the lease and its ritual."""
    at_work = ritual.attempt == held.attempt and ritual.state in HOLDS_ANVIL
    if at_work:
        return Step.LEAVE if held.live else Step.INTERRUPT
    evacuating = ritual.attempt == held.attempt and ritual.state is State.HARVESTED and not ritual.cancel_requested_at
    return Step.EVACUATE if evacuating and held.live else Step.TAKE_BACK


async def settle(anvil: Anvil, held: Lease) -> None:
    ritual = await ledger.find(anvil.station.pool, held.ritual)
    if ritual is None:
        raise RuntimeError(f"anvil {held.anvil} is leased to unknown ritual {held.ritual}")
    match decide(held, ritual):
        case Step.LEAVE:
            return
        case Step.EVACUATE:
            await evacuate(anvil, ritual, held)
            anvil.station.stir()
        case Step.INTERRUPT:
            await anvil.end_jobs("its lease expired")
            await anvil.station.state(lost(ritual, anvil.own.max_attempts), datetime.now(UTC))
            await take_back(anvil, held)
        case Step.TAKE_BACK:
            if ritual.state is State.HARVESTED and ritual.cancel_requested_at:
                await anvil.station.state_cancelled(ritual)
            await take_back(anvil, held)


async def take_back(anvil: Anvil, held: Lease) -> None:
    """Prove the holder gone, then free the lease."""
    await anvil.end_jobs("the GPU work is over")
    async with anvil.station.pool.acquire() as conn, conn.transaction():
        if await lease.release(conn, held.anvil, held.fence):
            await store.released(conn, held.anvil, held.fence)
            log.info("anvil taken back", anvil=held.anvil, fence=held.fence, ritual=str(held.ritual))
    anvil.station.stir()


def lost(ritual: Ritual, max_attempts: int) -> Fact:
    """The fact to state about GPU work that was lost: another attempt, or the end after too many."""
    reason = "the lease of the anvil expired: nobody renewed it in time"
    if ritual.attempt >= max_attempts:
        return AdapterFailed(
            ritual=ritual.id,
            persona=ritual.persona,
            attempt=ritual.attempt,
            reason=f"{reason}; given up after {max_attempts} attempts",
        )
    return GpuInterrupted(ritual=ritual.id, persona=ritual.persona, attempt=ritual.attempt, reason=reason)
