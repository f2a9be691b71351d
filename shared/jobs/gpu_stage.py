"""A stage of GPU work: for every ritual that holds an anvil in its state, one job per attempt, followed to its end.

Forge and verifier are such stages. Each names its job, plans it, and turns what the job left into a fact; cancellation,
another attempt and the end after too many are the same for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.jobs.heartbeat import watch_lease
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
    from shared.runtime.service import Station
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
    plan: Callable[[Station, Ritual, Lease], Awaitable[Planner]]
    conclude: Callable[[Station, Ritual, Lease, Finished], Awaitable[Fact]]

    async def watch(self, station: Station) -> None:
        """Keep the leases of this stage alive; runs as long as the service."""
        await watch_lease(station, job_containers(station), self.state, self.kind.role)

    async def reconcile(self, station: Station) -> None:
        jobs = Jobs(station, job_containers(station), self.kind)
        for ritual, held in await _holders(station.pool, self.state):
            await self._advance(station, jobs, ritual, held)

    async def _advance(self, station: Station, jobs: Jobs, ritual: Ritual, held: Lease) -> None:
        if ritual.cancel_requested_at:
            await jobs.stop(ritual)
            await station.state_cancelled(ritual)
            return
        plan = await self.plan(station, ritual, held)
        if finished := await jobs.follow(ritual, held.fence, plan):
            fact = await self._fact(station, ritual, held, finished)
            await station.state(fact, ritual.entered_at, held.fence)
            await jobs.forget(ritual)

    async def _fact(self, station: Station, ritual: Ritual, held: Lease, finished: Finished) -> Fact:
        if finished.result.ok:
            return await self.conclude(station, ritual, held, finished)
        failures = await ledger.failures(station.pool, ritual.id)
        return unfinished(ritual, finished.result, failures, self.max_attempts)


async def _holders(pool: Pool, state: State) -> list[tuple[Ritual, Lease]]:
    """The rituals in `state` that hold an anvil for their present attempt, each with its live lease.

    Without one the orchestrator is about to take the anvil back: there is nothing to do for the ritual then.
    """
    holders = [(ritual, await lease.held_by(pool, ritual.id)) for ritual in await ledger.waiting(pool, state)]
    return [(ritual, held) for ritual, held in holders if held and held.attempt == ritual.attempt]
