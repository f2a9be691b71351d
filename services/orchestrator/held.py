"""What to do about a held anvil: go on evacuating, leave the work alone, or take it back.

Taking back is physical: the jobs are ended and proven gone, and only then the lease is freed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog

from services.orchestrator import store
from services.orchestrator.anvil import TAKEN
from services.orchestrator.engine import Condition
from services.orchestrator.handover.evacuate import evacuate
from services.orchestrator.handover.steps import Step, Steps
from shared import lease, ledger
from shared.attempts import unfinished
from shared.contracts.evacuate import GpuInterrupted
from shared.contracts.job import JobResult
from shared.contracts.ritual import HOLDS_ANVIL, State

if TYPE_CHECKING:
    from services.orchestrator.anvil import Anvil
    from shared.contracts.message import Fact
    from shared.lease import Lease
    from shared.ledger import Ritual

log = structlog.get_logger()
EXPIRED = JobResult(ok=False, error="the lease of the anvil expired: nobody renewed it in time")


class Need(StrEnum):
    """What a held anvil needs."""

    EVACUATE = "evacuate"
    LEAVE = "leave"
    INTERRUPT = "interrupt"
    YIELD = "yield"
    TAKE_BACK = "take_back"


def decide(held: Lease, ritual: Ritual, wanted_back: bool = False) -> Need:
    """Pure: what a held anvil needs, from the lease, its ritual, and whether somebody asked for the anvil."""
    at_work = ritual.attempt == held.attempt and ritual.state in HOLDS_ANVIL
    if at_work and wanted_back and not ritual.cancel_requested_at:
        return Need.YIELD
    if at_work:
        return Need.LEAVE if held.live else Need.INTERRUPT
    evacuating = ritual.attempt == held.attempt and ritual.state is State.HARVESTED and not ritual.cancel_requested_at
    return Need.EVACUATE if evacuating and held.live and not wanted_back else Need.TAKE_BACK


async def settle(anvil: Anvil, held: Lease) -> None:
    ritual = await ledger.find(anvil.station.pool, held.ritual)
    if ritual is None:
        raise RuntimeError(f"anvil {held.anvil} is leased to unknown ritual {held.ritual}")
    wanted = await store.get_reclaim(anvil.station.pool, anvil.name)
    match decide(held, ritual, wanted is not None):
        case Need.LEAVE:
            await _keep_free(anvil, held)
        case Need.EVACUATE:
            await evacuate(anvil, ritual, held)
            anvil.station.stir()
        case Need.INTERRUPT:
            await anvil.end_jobs("its lease expired")
            failures = await ledger.failures(anvil.station.pool, ritual.id)
            fact = unfinished(ritual, EXPIRED, failures, anvil.own.max_attempts)
            await anvil.station.state(fact, datetime.now(UTC))
            await take_back(anvil, held)
        case Need.YIELD:
            # Stated before the job is stopped: nobody else then takes its end for a failure of its own.
            await anvil.station.state(_yielded(ritual, wanted or ""), datetime.now(UTC), held.fence)
            await take_back(anvil, held, anvil.own.reclaim_grace_s)
        case Need.TAKE_BACK:
            if ritual.state is State.HARVESTED and ritual.cancel_requested_at:
                await anvil.station.state_cancelled(ritual)
            await take_back(anvil, held, anvil.own.reclaim_grace_s if wanted is not None else 0.0)


async def take_back(anvil: Anvil, held: Lease, grace_s: float = 0.0) -> None:
    """Prove the holder gone, then free the lease."""
    async with Steps(anvil.station.pool, held.anvil, held.fence).step(Step.TAKE_BACK):
        await anvil.end_jobs("the GPU work is over", grace_s)
        async with anvil.station.pool.acquire() as conn, conn.transaction():
            if await lease.release(conn, held.anvil, held.fence):
                await store.record_released(conn, held.anvil, held.fence)
                log.info("anvil taken back", anvil=held.anvil, fence=held.fence, ritual=str(held.ritual))
    anvil.station.stir()


async def _keep_free(anvil: Anvil, held: Lease) -> None:
    """A rune that came up by itself beside the GPU work is stopped, and a hold of a queue that was lost is made again."""
    for queue in anvil.queues.values():
        await queue.hold(anvil.holder(held.fence), TAKEN)
    for rune in anvil.runes:
        condition = await rune.condition()
        if condition in (Condition.STARTING, Condition.STUCK, Condition.SERVING) and not anvil.sleeps:
            log.error("a rune came back while the anvil is held; it is stopped", anvil=anvil.name, rune=rune.name)
            await rune.stop()


def _yielded(ritual: Ritual, why: str) -> Fact:
    reason = f"the anvil was wanted back{': ' if why else ''}{why}"
    return GpuInterrupted(ritual=ritual.id, persona=ritual.persona, attempt=ritual.attempt, reason=reason, asked=True)
