"""Reconcile a held anvil: continue its evacuation, leave it to the job, or take it back.

Taking back is physical: the jobs are ended and proven gone, and only then the lease is released.
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
from services.orchestrator.steps import Step, Steps
from shared.contracts.evacuate import GpuInterrupted
from shared.contracts.job import JobResult
from shared.contracts.ritual import HOLDS_ANVIL, State
from shared.ritual import lease, ledger
from shared.ritual.attempts import unfinished

if TYPE_CHECKING:
    from services.orchestrator.anvil import Anvil
    from shared.ritual.lease import Lease
    from shared.ritual.ledger import Ritual

log = structlog.get_logger()
EXPIRED = JobResult(ok=False, error="the lease of the anvil expired: it was not renewed in time")


class Action(StrEnum):
    """The next action on a held anvil."""

    EVACUATE = "evacuate"
    LEAVE = "leave"
    INTERRUPT = "interrupt"
    YIELD = "yield"
    TAKE_BACK = "take_back"


def choose_action(held: Lease, ritual: Ritual, reclaimed: bool = False) -> Action:
    """Choose from the lease, its ritual, and whether the anvil was reclaimed. Pure."""
    at_work = ritual.attempt == held.attempt and ritual.state in HOLDS_ANVIL
    if at_work and reclaimed and not ritual.cancel_requested_at:
        return Action.YIELD
    if at_work:
        return Action.LEAVE if held.live else Action.INTERRUPT
    evacuating = ritual.attempt == held.attempt and ritual.state is State.HARVESTED and not ritual.cancel_requested_at
    return Action.EVACUATE if evacuating and held.live and not reclaimed else Action.TAKE_BACK


async def reconcile_held(anvil: Anvil, held: Lease) -> None:
    """Do what the held anvil needs now. Raises RuntimeError where its ritual is unknown."""
    context, settings = anvil.context, anvil.settings
    ritual = await ledger.get_ritual(context.pool, held.ritual)
    if ritual is None:
        raise RuntimeError(f"anvil {held.anvil} is leased to unknown ritual {held.ritual}")
    reclaimed = await store.get_reclaim(context.pool, anvil.name)
    match choose_action(held, ritual, reclaimed is not None):
        case Action.LEAVE:
            await _keep_free(anvil, held)
        case Action.EVACUATE:
            await evacuate(anvil, ritual, held)
            context.wake()
        case Action.INTERRUPT:
            await anvil.end_jobs("its lease expired")
            failures = await ledger.count_failures(context.pool, ritual.id)
            await context.record(unfinished(ritual, EXPIRED, failures, settings.max_attempts), datetime.now(UTC))
            await take_back(anvil, held)
        case Action.YIELD:
            # Recorded before the job is stopped, so that its service does not take the stop for a failure.
            await context.record(_reclaimed(ritual, reclaimed or ""), datetime.now(UTC), held.fence)
            await take_back(anvil, held, settings.reclaim_grace_s)
        case Action.TAKE_BACK:
            if ritual.state is State.HARVESTED and ritual.cancel_requested_at:
                await context.record_cancelled(ritual)
            await take_back(anvil, held, 0.0 if reclaimed is None else settings.reclaim_grace_s)


async def take_back(anvil: Anvil, held: Lease, grace_s: float = 0.0) -> None:
    """Prove the holder gone, then release the lease."""
    pool = anvil.context.pool
    async with Steps(pool, held.anvil, held.fence).step(Step.TAKE_BACK):
        await anvil.end_jobs("the GPU work is over", grace_s)
        async with pool.acquire() as conn, conn.transaction():
            if await lease.release(conn, held.anvil, held.fence):
                await store.record_released(conn, held.anvil, held.fence)
                log.info("anvil taken back", anvil=held.anvil, fence=held.fence, ritual=str(held.ritual))
    anvil.context.wake()


async def _keep_free(anvil: Anvil, held: Lease) -> None:
    """Hold the queues again where a hold was lost, and stop a rune that started beside the GPU work."""
    for queue in anvil.queues.values():
        await queue.hold(anvil.holder(held.fence), TAKEN)
    for rune in anvil.runes:
        condition = await rune.condition()
        if condition in (Condition.STARTING, Condition.STUCK, Condition.SERVING) and not anvil.sleeps:
            log.error("rune stopped: it runs while the anvil is held", anvil=anvil.name, rune=rune.name)
            await rune.stop()


def _reclaimed(ritual: Ritual, why: str) -> GpuInterrupted:
    reason = f"the anvil was reclaimed: {why}" if why else "the anvil was reclaimed"
    return GpuInterrupted(ritual=ritual.id, persona=ritual.persona, attempt=ritual.attempt, reason=reason, asked=True)
