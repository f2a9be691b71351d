"""Make the decision of a harvest: from the one that was kept, where that can be, and else about all records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from services.harvester.again import apply, closure, kept, stages, tallies
from services.harvester.again.kept import Decision, Mark
from services.harvester.again.limits import TooMuch
from services.harvester.statements import KEPT, PASSING, Step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.harvester.manifest.write import Job
    from shared.storage.postgres import Connection

log = structlog.get_logger()

#: Else some thousand records are looked up by reading all of them, which lie in memory for the most part, and where all
#: are looked through, one process does that, since far more of them are expected to be found.
_COSTS = "SET LOCAL random_page_cost = 1.1; SET LOCAL parallel_tuple_cost = 0.001; SET LOCAL parallel_setup_cost = 100"
_USUAL_COSTS = (
    "SET LOCAL random_page_cost TO DEFAULT; SET LOCAL parallel_tuple_cost TO DEFAULT; "
    "SET LOCAL parallel_setup_cost TO DEFAULT"
)


async def decided(
    conn: Connection, job: Job, table: str, salt: str, everything: Callable[..., Awaitable[bool]]
) -> Decision:
    """In the caller's transaction. `table` is where a decision stands that is not kept; `everything` decides about all.

    `salt` is what the keys of segments begin with.
    """
    persona, key = job.order.persona, kept.key(job, salt)
    if key is None:
        await everything(conn, table, persona, job.order.policy, job.order.intent, job.order.wanted)
        return Decision(table, anew=True)
    stays = kept_name(table)
    if (mark := await kept.known(conn, persona, key, stays)) and (
        decision := await _again(conn, job, stays, salt, mark)
    ):
        return decision
    await kept.forget(conn, persona)
    if await everything(conn, stays, persona, job.order.policy, job.order.intent, job.order.wanted):
        return Decision(stays, anew=True)
    records = await conn.fetchval(f"SELECT count(*) FROM {stays}")
    mark = await kept.current(conn, key, records, await kept.sealed(conn, persona))
    return Decision(stays, anew=True, mark=mark)


def kept_name(table: str) -> str:
    return table.replace(".decided_", ".kept_")


async def _again(conn: Connection, job: Job, table: str, salt: str, mark: Mark) -> Decision | None:
    step = Step(conn, f"{table}_again", table)
    try:
        async with conn.transaction():
            return await _changes(step, job, salt, mark)
    except TooMuch as why:
        log.info("all records are decided about anew", persona=job.order.persona, why=str(why))
        return None


async def _changes(step: Step, job: Job, salt: str, mark: Mark) -> Decision:
    persona, policy = job.order.persona, job.order.policy
    await step.run(_COSTS)
    records = await closure.changed(step, persona, mark)
    split = await closure.cuts(step)
    await closure.affected(step, persona, policy, records)
    await stages.begin(step, persona, policy, job.order.intent)
    await stages.repeated(step, persona, records)
    await stages.nearly_repeated(step, persona, records)
    await stages.passages(step, persona, policy, records)
    await stages.alone(step, policy)
    await stages.corrections(step, persona)
    places = await apply.apply(step, salt, split)
    await tallies.check_shares(step, policy)
    new = await kept.current(step.conn, mark.key, records, (mark.sealed, mark.sealed_sum))
    await kept.write(step.conn, persona, new)
    await step.clear("decided", *KEPT, *PASSING)
    await step.run(_USUAL_COSTS)
    return Decision(step.kept, anew=False, mark=new, places=places if mark.sealed_whole else None)
