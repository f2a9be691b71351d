"""A stage of GPU work: runs one job per attempt for every ritual that holds an anvil in its state.

Forge and verifier are such stages. Each defines its job, plans it, and turns its result into a fact; cancellation,
further attempts and the end after too many are the same for both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from shared.contracts.job import JobResult
from shared.jobs.heartbeat import lease_heartbeat
from shared.jobs.isolation import get_isolation
from shared.jobs.runner import Jobs, Seen, job_containers
from shared.ritual import lease, ledger
from shared.ritual.attempts import unfinished
from shared.runtime.advance import advance_each
from shared.runtime.metrics import forget_progress
from shared.runtime.presence import Isolation, record_isolation
from shared.storage.untrusted import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shared.contracts.intent import TrainingIntent
    from shared.contracts.message import Fact
    from shared.contracts.ritual import State
    from shared.jobs.runner import Finished, JobKind, JobPlan
    from shared.ritual.lease import Lease
    from shared.ritual.ledger import Ritual
    from shared.runtime.context import ServiceContext
    from shared.runtime.loops import Loop

    Planner = Callable[[Path], JobPlan]


class Work(Protocol):
    """The part that differs between the stages."""

    async def plan(self, ritual: Ritual, held: Lease) -> Planner:
        """Return a function that plans this attempt's job for an output directory. Called at every pass."""

    async def conclude(self, ritual: Ritual, held: Lease, finished: Finished) -> Fact:
        """Return the fact about a job that succeeded. Raises OutputError where its output cannot be used."""

    def out_of_memory(self, ritual: Ritual, finished: Finished) -> Fact | None:
        """Return the fact about a job that ran out of memory; None where it is a failure like any other."""

    def request_after(self, ritual: Ritual, fact: Fact) -> TrainingIntent | None:
        """Return the intent that is published with a fact; None where none is."""


@dataclass(frozen=True)
class GpuStage:
    """The stage of the rituals in `state`; `reconcile` is one pass over them."""

    context: ServiceContext
    state: State
    kind: JobKind
    max_attempts: int
    work: Work
    seen: dict[str, Seen] = field(default_factory=dict)

    def heartbeat(self) -> Loop:
        """The loop that keeps the leases of this stage alive."""
        return lease_heartbeat(self.context, job_containers(self.context), self.state, self.kind.role)

    async def check_isolation(self) -> None:
        """Raise RuntimeError where no job is started because it could not be isolated."""
        found = await get_isolation(job_containers(self.context), self.context.configuration.jobs)
        if found.isolation is Isolation.REFUSED:
            raise RuntimeError(found.why)

    async def reconcile(self) -> None:
        rituals = await ledger.list_rituals(self.context.pool, self.state)
        await advance_each(self.context, rituals, self._advance)
        if not rituals:
            forget_progress(self.kind.role)
        isolation = await get_isolation(job_containers(self.context), self.context.configuration.jobs)
        await record_isolation(self.context.pool, self.context.service, isolation)

    async def _advance(self, ritual: Ritual) -> bool:
        """Advance one ritual; False where nothing could be tried."""
        # Without a live lease the orchestrator is about to take back the anvil: nothing is to be done then.
        held = await lease.get_live_lease(self.context.pool, ritual.id)
        if held is None or held.attempt != ritual.attempt:
            return False
        jobs = Jobs(self.context, job_containers(self.context), self.kind, self.seen)
        if ritual.cancel_requested_at:
            await jobs.stop(ritual)
            await self.context.record_cancelled(ritual)
            return True
        plan = await self.work.plan(ritual, held)
        if finished := await jobs.follow(ritual, held.fence, plan):
            fact = await self._fact(ritual, held, finished)
            # Where the lease was lost meanwhile, the orchestrator is to find that a job had started.
            request = self.work.request_after(ritual, fact)
            if await self.context.record(fact, ritual.entered_at, held.fence, request):
                await jobs.forget(ritual)
        return True

    async def _fact(self, ritual: Ritual, held: Lease, finished: Finished) -> Fact:
        result = finished.result
        if result.ok:
            try:
                return await self.work.conclude(ritual, held, finished)
            except OutputError as error:
                result = JobResult(ok=False, error=str(error))
        if result.out_of_memory and (fact := self.work.out_of_memory(ritual, finished)):
            return fact
        failures = await ledger.count_failures(self.context.pool, ritual.id)
        return unfinished(ritual, result, failures, self.max_attempts, isolation=finished.isolation)
