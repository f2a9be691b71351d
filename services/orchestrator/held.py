"""Reconcile a held anvil: continue its evacuation, leave it to the job, or take it back.

Taking back is physical: the jobs are ended and proven gone, and only then the lease is released.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

import structlog

from services.orchestrator import store
from services.orchestrator.anvil import WORKERS
from services.orchestrator.handover.evacuate import evacuate
from services.orchestrator.handover.keep_free import keep_free
from services.orchestrator.steps import Step, Steps
from shared.contracts.evacuate import GpuInterrupted
from shared.contracts.job import JobResult
from shared.contracts.ritual import HOLDS_ANVIL, State
from shared.ritual import lease, ledger
from shared.ritual.attempts import unfinished
from shared.ritual.errors import get_error
from shared.runtime.advance import advance_each, advance_one

if TYPE_CHECKING:
    from services.orchestrator.anvil import Anvil
    from shared.ritual.lease import Lease
    from shared.ritual.ledger import Ritual

log = structlog.get_logger()
OTHER_FENCE = "its fence is not that of the lease"
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
    yields = reclaimed or ritual.paused_at is not None
    if at_work and yields and not ritual.cancel_requested_at:
        return Action.YIELD
    if at_work:
        return Action.LEAVE if held.live else Action.INTERRUPT
    evacuating = ritual.attempt == held.attempt and ritual.state is State.HARVESTED and not ritual.cancel_requested_at
    return Action.EVACUATE if evacuating and held.live and not yields else Action.TAKE_BACK


async def reconcile_held(anvil: Anvil, held: Lease) -> None:
    """Do what the held anvil needs now. An error of its ritual is recorded; one of the anvil is raised."""
    context, settings = anvil.context, anvil.settings
    ritual = await ledger.get_ritual(context.pool, held.ritual)
    if ritual is None:
        log.error("anvil taken back: its ritual is unknown", anvil=anvil.name, ritual=str(held.ritual))
        await take_back(anvil, held)
        return
    reclaimed = await store.get_reclaim(context.pool, anvil.name)
    match choose_action(held, ritual, reclaimed is not None):
        case Action.LEAVE:
            await anvil.end_jobs(OTHER_FENCE, but_of=held.fence)
            reason = await keep_free(anvil, held)
            lost = JobResult(ok=False, error=reason)
            # Recorded before the job is stopped, as for YIELD.
            if reason and await advance_one(context, ritual, partial(_interrupt, anvil, lost)):
                await take_back(anvil, held)
        case Action.EVACUATE:
            await anvil.end_jobs(OTHER_FENCE, but_of=held.fence)
            await advance_each(context, [ritual], partial(_evacuate, anvil, held), clear=False)
        case Action.INTERRUPT:
            started = str(held.fence) in await anvil.end_jobs("its lease expired")
            interrupt = partial(_interrupt, anvil, EXPIRED) if started else partial(_interrupt_unstarted, anvil)
            if await advance_one(context, ritual, interrupt):
                await take_back(anvil, held)
        case Action.YIELD:
            # Recorded before the job is stopped, so that its service does not take the stop for a failure.
            if await advance_one(context, ritual, partial(_yield, anvil, held, reclaimed)):
                await take_back(anvil, held, settings.reclaim_grace_s)
        case Action.TAKE_BACK:
            if ritual.state is State.HARVESTED and ritual.cancel_requested_at:
                await advance_one(context, ritual, context.record_cancelled)
            asked = reclaimed is not None or ritual.paused_at is not None
            await take_back(anvil, held, settings.reclaim_grace_s if asked else 0.0)


async def _evacuate(anvil: Anvil, held: Lease, ritual: Ritual) -> None:
    await evacuate(anvil, held, ritual)
    anvil.context.wake()


async def interrupt_without_lease(anvil: Anvil) -> None:
    """Interrupt rituals that are at their GPU work without a lease of any anvil: only a lost row leads there."""
    context = anvil.context
    rituals = await ledger.list_rituals(context.pool, *HOLDS_ANVIL)
    without = [ritual for ritual in rituals if await lease.get_lease_of(context.pool, ritual.id) is None]
    await advance_each(context, without, partial(_interrupt, anvil, EXPIRED), clear=False)


async def _interrupt(anvil: Anvil, lost: JobResult, ritual: Ritual) -> None:
    failures = await ledger.count_failures(anvil.context.pool, ritual.id)
    fact = unfinished(ritual, lost, failures, anvil.settings.max_attempts)
    await anvil.context.record(fact, datetime.now(UTC))


async def _interrupt_unstarted(anvil: Anvil, ritual: Ritual) -> None:
    """Interrupt an attempt without a job.

    It is a failure where its service could not start one. Else it is none, but as many as `runtime.max_errors` end the
    ritual too.
    """
    pool, most = anvil.context.pool, anvil.context.configuration.runtime.max_errors
    if error := await get_error(pool, ritual, WORKERS[ritual.state]):
        await _interrupt(
            anvil, JobResult(ok=False, error=f"the {WORKERS[ritual.state]} could not start a job: {error}"), ritual
        )
        return
    unstarted = await ledger.count_failures(pool, ritual.id, started=False)
    lost = JobResult(
        ok=False, error=f"the lease of the anvil expired before the {WORKERS[ritual.state]} had started a job"
    )
    await anvil.context.record(unfinished(ritual, lost, unstarted, most, started=False), datetime.now(UTC))


async def _yield(anvil: Anvil, held: Lease, reclaimed: str | None, ritual: Ritual) -> None:
    """Record that the attempt ends for the reason of a reclaim, or for that of a pause."""
    what, why = (
        ("the ritual was paused", ritual.paused_why) if reclaimed is None else ("the anvil was reclaimed", reclaimed)
    )
    fact = GpuInterrupted(**ritual.key, reason=f"{what}: {why}" if why else what, asked=True)
    await anvil.context.record(fact, datetime.now(UTC), held.fence)


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
