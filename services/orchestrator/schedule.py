"""Lease the serving anvil to a waiting ritual when its tipping point is reached."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from services.orchestrator import store
from services.orchestrator.scheduling.decide import decide_queue
from services.orchestrator.scheduling.decision import Cause, Decision, Verdict, clock_text, day_bounds, wait
from services.orchestrator.scheduling.limits import estimate_away_s
from services.orchestrator.scheduling.load import Load
from services.orchestrator.scheduling.queue import DEFAULT_PRIORITY, QueuedRitual
from shared.contracts.harvest import KarmaHarvested
from shared.contracts.ritual import State
from shared.ritual import lease, ledger

if TYPE_CHECKING:
    from uuid import UUID

    from services.orchestrator.anvil import Anvil
    from shared.ritual.ledger import Ritual

log = structlog.get_logger()


async def schedule(anvil: Anvil) -> None:
    """Decide about every waiting ritual, record why, and lease the anvil to the one that goes now."""
    pool = anvil.context.pool
    if await ledger.list_rituals(pool, State.VERIFIED, State.REGISTERED):
        return  # an adapter is about to be awakened: it needs inference first
    waiting = {ritual.id: ritual for ritual in await ledger.list_rituals(pool, State.HARVESTED)}
    for ritual in [ritual for ritual in waiting.values() if ritual.cancel_requested_at]:
        await anvil.context.record_cancelled(waiting.pop(ritual.id))
    if not waiting or await _withhold(anvil, list(waiting)):
        return
    for ritual_id, decision in await _decide(anvil, list(waiting.values())):
        await store.record_decision(pool, ritual_id, decision)
        if decision.verdict is Verdict.REFUSED:
            await anvil.refuse(waiting[ritual_id], decision.reason)
        elif decision.verdict is Verdict.NOW:
            await _lease(anvil, waiting[ritual_id])


async def explain_wait(anvil: Anvil) -> None:
    """Record why the rituals that wait for an anvil which does not serve are kept from it."""
    await _withhold(anvil, [ritual.id for ritual in await ledger.list_rituals(anvil.context.pool, State.HARVESTED)])


async def _withhold(anvil: Anvil, waiting: list[UUID]) -> bool:
    """True while the anvil is contained or reclaimed; the rituals' wait is recorded then."""
    pool = anvil.context.pool
    reason, until = await store.get_containment(pool, anvil.name), await store.get_reclaimed_until(pool, anvil.name)
    if reason is not None:
        decision = wait(Cause.CONTAINED, f"{anvil.name} is contained: {reason}")
    elif until is not None:
        ends = clock_text(until, datetime.now(UTC), anvil.context.configuration.tipping.zone)
        decision = wait(Cause.RECLAIMED, f"{anvil.name} is reclaimed until {ends}", until)
    else:
        return False
    for ritual in waiting:
        await store.record_decision(pool, ritual, decision)
    return True


async def _decide(anvil: Anvil, waiting: list[Ritual]) -> list[tuple[UUID, Decision]]:
    config = anvil.context.configuration.tipping
    load = await _measure_load(anvil)
    queued = {ritual.id: (await _queued(anvil, ritual), load) for ritual in waiting}
    return [(ritual.id, decision) for ritual, decision in decide_queue(queued, config)]


async def _measure_load(anvil: Anvil) -> Load:
    config, pool = anvil.context.configuration.tipping, anvil.context.pool
    now = datetime.now(UTC)
    return Load(
        now=now,
        traffic=anvil.monitor.traffic(),
        queued_jobs=await anvil.count_queued_jobs(),
        away_today_s=await store.get_away_s(pool, anvil.name, day_bounds(now, config.zone)[0]),
        expected_away_s=estimate_away_s(await store.list_past_away_s(pool, anvil.name), config.expected_away_s),
    )


async def _queued(anvil: Anvil, ritual: Ritual) -> QueuedRitual:
    refuse_after_s = anvil.context.configuration.tipping.refuse_after_s
    harvested = await ledger.get_fact(anvil.context.pool, ritual.id, KarmaHarvested)
    return QueuedRitual(
        id=ritual.id,
        priority=ritual.priority if 0 <= ritual.priority <= 9 else DEFAULT_PRIORITY,
        # Its age is its place in the queue; where age refuses, only the wait since it last had the anvil counts.
        since=ritual.created_at if refuse_after_s is None else ritual.entered_at,
        weight=harvested.train if harvested else 0,
        deadline=ritual.intent.deadline,
    )


async def _lease(anvil: Anvil, ritual: Ritual) -> None:
    context = anvil.context
    async with context.pool.acquire() as conn, conn.transaction():
        fence = await lease.acquire(
            conn, anvil.name, ritual.id, ritual.attempt, context.configuration.runtime.lease_ttl_s
        )
        if fence is not None:
            await store.insert_handover(conn, anvil.name, fence, ritual.id, ritual.attempt)
            log.info("anvil leased", anvil=anvil.name, ritual=str(ritual.id), attempt=ritual.attempt, fence=fence)
    context.wake()
