"""Check at intervals whether a persona's new karma asks for a ritual; idle where the policy is off."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from services.harvester.auto_trigger.policy import NewKarma, TriggerPolicy, TriggerState, decide_trigger
from services.harvester.auto_trigger.store import fire, get_trigger_states, list_new_karma, rearm
from shared.runtime.advance import describe
from shared.runtime.loops import Loop

if TYPE_CHECKING:
    from shared.runtime.context import ServiceContext
    from shared.storage.postgres import Pool

log = structlog.get_logger()


def trigger_loop(context: ServiceContext, policy: TriggerPolicy, every_s: float) -> tuple[Loop, ...]:
    """The loop that checks every persona; none where the policy is off."""

    async def run() -> None:
        await check_personas(context, policy)

    return (Loop("auto-trigger", run, every_s),) if policy.enabled else ()


async def check_personas(context: ServiceContext, policy: TriggerPolicy) -> list[str]:
    """Decide for every persona, record the decision, and ask for rituals. Returns the personas whose trigger fired.

    An error is logged with its persona and delays no other.
    """
    now, fired = datetime.now(UTC), []
    states = await get_trigger_states(context.pool)
    for karma in await list_new_karma(context.pool):
        try:
            if await _check(context.pool, karma, policy, states.get(karma.persona, TriggerState()), now):
                fired.append(karma.persona)
        except Exception as error:
            log.error("automatic trigger not checked", persona=karma.persona, error=describe(error))
    return fired


async def _check(pool: Pool, karma: NewKarma, policy: TriggerPolicy, state: TriggerState, now: datetime) -> bool:
    """Decide for one persona; True when its trigger fired."""
    decision = decide_trigger(karma, policy, state, now)
    async with pool.acquire() as conn, conn.transaction():
        if decision.fire and await fire(conn, karma.persona, state, decision, now):
            log.info("automatic trigger fired", persona=karma.persona, why=decision.why)
            return True
        if decision.armed and not state.armed:
            await rearm(conn, karma.persona, state)
            log.info("automatic trigger armed again", persona=karma.persona, why=decision.why)
    return False
