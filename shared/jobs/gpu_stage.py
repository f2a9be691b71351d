"""A stage of GPU work: for every ritual that holds an anvil in its state, one job per attempt, followed to its end.

Forge and verifier are such stages. Each names its job, plans it, and turns what the job left into a fact; cancellation,
another attempt and the end after too many are the same for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.jobs.heartbeat import renew_leases
from shared.jobs.runner import Jobs, job_containers
from shared.ritual import lease, ledger
from shared.ritual.attempts import unfinished

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from shared.contracts.message import Fact
    from shared.contracts.ritual import State
    from shared.jobs.runner import Finished, JobKind, JobPlan
    from shared.ritual.lease import Lease
    from shared.ritual.ledger import Ritual
    from shared.runtime.service import ServiceContext
    from shared.storage.postgres import Pool

    Planner = Callable[[Path], JobPlan]


@dataclass(frozen=True)
class GpuStage:
    """What differs between the stages.

    `plan` is asked at every look for what the job of this attempt would get, given its output directory.
    `conclude` gives the fact about a job that ended well.
    """

    state: State
    kind: JobKind
    max_attempts: int
    plan: Callable[[ServiceContext, Ritual, Lease], Awaitable[Planner]]
    conclude: Callable[[ServiceContext, Ritual, Lease, Finished], Awaitable[Fact]]

    async def watch(self, context: ServiceContext) -> None:
        """Keep the leases of this stage alive; runs as long as the service."""
        await renew_leases(context, job_containers(context), self.state, self.kind.role)

    async def reconcile(self, context: ServiceContext) -> None:
        jobs = Jobs(context, job_containers(context), self.kind)
        for ritual, held in await _holders(context.pool, self.state):
            await self._advance(context, jobs, ritual, held)

    async def _advance(self, context: ServiceContext, jobs: Jobs, ritual: Ritual, held: Lease) -> None:
        if ritual.cancel_requested_at:
            await jobs.stop(ritual)
            await context.record_cancelled(ritual)
            return
        plan = await self.plan(context, ritual, held)
        if finished := await jobs.follow(ritual, held.fence, plan):
            fact = await self._fact(context, ritual, held, finished)
            await context.record(fact, ritual.entered_at, held.fence)
            await jobs.forget(ritual)

    async def _fact(self, context: ServiceContext, ritual: Ritual, held: Lease, finished: Finished) -> Fact:
        if finished.result.ok:
            return await self.conclude(context, ritual, held, finished)
        failures = await ledger.failures(context.pool, ritual.id)
        return unfinished(ritual, finished.result, failures, self.max_attempts)


async def _holders(pool: Pool, state: State) -> list[tuple[Ritual, Lease]]:
    """The rituals in `state` that hold an anvil for their present attempt, each with its live lease.

    Without one the orchestrator is about to take the anvil back: there is nothing to do for the ritual then.
    """
    holders = [(ritual, await lease.held_by(pool, ritual.id)) for ritual in await ledger.waiting(pool, state)]
    return [(ritual, held) for ritual, held in holders if held and held.attempt == ritual.attempt]
