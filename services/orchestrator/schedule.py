"""Lease the serving anvil to a waiting ritual when its tipping point is reached."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog

from services.orchestrator import store
from services.orchestrator.anvil import WORKERS
from services.orchestrator.scheduling.decide import decide_queue
from services.orchestrator.scheduling.decision import Cause, Decision, Verdict, clock_text, day_bounds, wait
from services.orchestrator.scheduling.limits import estimate_away_s
from services.orchestrator.scheduling.load import Load
from services.orchestrator.scheduling.queue import DEFAULT_PRIORITY, QueuedRitual
from shared.contracts.harvest import KarmaHarvested
from shared.contracts.ritual import State
from shared.ritual import lease, ledger
from shared.runtime.advance import advance_each
from shared.runtime.presence import Isolation, list_isolation, list_silent
from shared.storage.artifacts import lacking_space

if TYPE_CHECKING:
    from uuid import UUID

    from services.orchestrator.anvil import Anvil
    from shared.ritual.ledger import Ritual
    from shared.storage.postgres import Pool

log = structlog.get_logger()
OWNER = "orchestrator's scheduling"  # its errors are apart from those of an evacuation
AWAKENED_WITHIN = timedelta(minutes=10)
ABSENT_AFTER_S = 15.0  # besides the time between two passes


async def schedule(anvil: Anvil) -> None:
    """Decide about every waiting ritual, record why, and lease the anvil to the one that goes now."""
    pool = anvil.context.pool
    if any(map(_is_about_to_serve, await ledger.list_rituals(pool, State.VERIFIED, State.REGISTERED))):
        return  # it needs inference first
    harvested = await ledger.list_rituals(pool, State.HARVESTED)
    waiting = await _without_paused(anvil, [ritual for ritual in harvested if not ritual.cancel_requested_at])
    if not waiting or await _withhold(anvil, [ritual.id for ritual in waiting]):
        return
    decided = await _decide(anvil, waiting)
    await advance_each(
        anvil.context,
        [ritual for ritual in waiting if ritual.id in decided],
        partial(_act, anvil, decided),
        owner=OWNER,
    )


async def end_cancelled(anvil: Anvil, holder: UUID | None) -> None:
    """End the cancelled rituals that wait for the anvil; what its holder does is ended with its work."""
    harvested = await ledger.list_rituals(anvil.context.pool, State.HARVESTED)
    cancelled = [ritual for ritual in harvested if ritual.cancel_requested_at and ritual.id != holder]
    await advance_each(anvil.context, cancelled, anvil.context.record_cancelled, owner=OWNER)


def _is_about_to_serve(ritual: Ritual) -> bool:
    """Whether a verified adapter may still be awakened soon; one that cannot is not to keep the anvil from others."""
    return datetime.now(UTC) - ritual.entered_at < AWAKENED_WITHIN


async def _act(anvil: Anvil, decided: dict[UUID, Decision], ritual: Ritual) -> None:
    decision = decided[ritual.id]
    await store.record_decision(anvil.context.pool, ritual.id, decision)
    if decision.verdict is Verdict.REFUSED:
        await anvil.refuse(ritual, decision.reason)
    elif decision.verdict is Verdict.NOW:
        await _lease(anvil, ritual)


async def explain_wait(anvil: Anvil) -> None:
    """Record why the rituals that wait for an anvil which does not serve are kept from it."""
    waiting = await _without_paused(anvil, await ledger.list_rituals(anvil.context.pool, State.HARVESTED))
    await _withhold(anvil, [ritual.id for ritual in waiting])


async def _without_paused(anvil: Anvil, rituals: list[Ritual]) -> list[Ritual]:
    """Those that are not paused; of the others it is recorded that they wait for that."""
    for ritual in rituals:
        if ritual.paused_at:
            reason = f"it is paused: {ritual.paused_why}" if ritual.paused_why else "it is paused"
            await store.record_decision(anvil.context.pool, ritual.id, wait(Cause.PAUSED, reason))
    return [ritual for ritual in rituals if not ritual.paused_at]


async def _withhold(anvil: Anvil, waiting: list[UUID]) -> bool:
    """True while the anvil is contained or reclaimed, or the work on it could not be done, or not isolated; the wait is recorded then."""
    pool = anvil.context.pool
    silent = await list_silent(pool, WORKERS.values(), ABSENT_AFTER_S + anvil.context.configuration.runtime.reconcile_s)
    reason, until = await store.get_containment(pool, anvil.name), await store.get_reclaimed_until(pool, anvil.name)
    if reason is not None:
        decision = wait(Cause.CONTAINED, f"{anvil.name} is contained: {reason}")
    elif until is not None:
        ends = clock_text(until, datetime.now(UTC), anvil.context.configuration.tipping.zone)
        decision = wait(Cause.RECLAIMED, f"{anvil.name} is reclaimed until {ends}", until)
    elif silent:
        decision = wait(Cause.ABSENT, f"not running: {' and '.join(silent)}; see `soulforge status`")
    elif refused := await _refused_jobs(pool):
        decision = wait(Cause.JOBS, refused)
    elif lacking := lacking_space(anvil.context.settings.home, anvil.context.configuration.runtime.min_free):
        decision = wait(Cause.DISK, lacking)
    else:
        return False
    for ritual in waiting:
        await store.record_decision(pool, ritual, decision)
    return True


async def _refused_jobs(pool: Pool) -> str | None:
    """Which services would start no job on the anvil, and why; None where all would."""
    services: dict[str, list[str]] = {}
    for service, jobs in (await list_isolation(pool)).items():
        if service in WORKERS.values() and jobs.isolation is Isolation.REFUSED:
            services.setdefault(jobs.why, []).append(service)
    return "; ".join(f"{' and '.join(names)} cannot start jobs: {why}" for why, names in services.items()) or None


async def _decide(anvil: Anvil, waiting: list[Ritual]) -> dict[UUID, Decision]:
    """The decision about every waiting ritual that can be read; the others have an error of their own."""
    load = await _measure_load(anvil)
    queued: dict[UUID, tuple[QueuedRitual, Load]] = {}

    async def read(ritual: Ritual) -> None:
        queued[ritual.id] = (await _queued(anvil, ritual), load)

    await advance_each(anvil.context, waiting, read, clear=False, owner=OWNER)
    decisions = decide_queue(queued, anvil.context.configuration.tipping)
    return {ritual.id: decision for ritual, decision in decisions}


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
