"""Follow the ritual of a job in the ledger, and pass on to it what the client commands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from services.gateway.jobs import bus, store
from services.gateway.jobs.facts import STATUS, end_of, event_of
from services.gateway.jobs.store import Event
from services.gateway.jobs.waiting import Wait, wait_changes
from shared.contracts.intent import RitualCancel, RitualPause, RitualResume
from shared.contracts.registry import AdapterProposed
from shared.contracts.ritual import ENDS, NEEDS_ANVIL, State
from shared.ritual.views import list_facts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.gateway.jobs.jobs import Jobs
    from services.gateway.jobs.store import Job, RitualState
    from shared.contracts.message import Fact
    from shared.runtime.context import ServiceContext

NO_PAUSE = "It cannot be paused any more: training and evaluation are done"


class Follower:
    """Follows rituals."""

    def __init__(self, context: ServiceContext, jobs: Jobs) -> None:
        self._context, self._pool, self._jobs = context, context.pool, jobs

    async def follow(self, job: Job, ritual: RitualState) -> None:
        """Record what is new of the ritual, once; at its end also the job's."""
        state = State(ritual.state)
        facts = [recorded.fact for recorded in await list_facts(self._pool, job.ritual)]
        known = await store.list_sources(self._pool, job.id)
        events = [event for event in map(event_of, facts) if event.source not in known]
        if state in ENDS:
            await self._end(job, state, facts, events)
            return
        columns: dict[str, Any] = {} if STATUS[state] == job.status else {"status": STATUS[state]}
        if change := wait_changes(job, find_wait(state, ritual, facts)):
            events += change.events
            columns |= change.columns
        if events or columns:
            await self._jobs.record(job.id, *events, **columns)
        await self._pass_on(job, state, ritual)

    async def _end(self, job: Job, state: State, facts: Sequence[Fact], events: list[Event]) -> None:
        end = end_of(state, facts)
        if end.status == "succeeded":
            events.append(
                Event("end", "The job has successfully completed", data={"fine_tuned_model": end.fine_tuned_model})
            )
        elif end.status == "failed":
            assert end.error
            events.append(
                Event("end", f"The job has failed: {end.error['message']}", "error", data={"error": end.error})
            )
        else:
            events.append(Event("end", "The job is cancelled"))
        await self._jobs.record(
            job.id,
            *events,
            status=end.status,
            fine_tuned_model=end.fine_tuned_model,
            error=end.error,
            trained_tokens=end.trained_tokens,
            waits_for=None,
            waits_until=None,
        )

    async def _pass_on(self, job: Job, state: State, ritual: RitualState) -> None:
        """Publish what was commanded, until it is in the ritual's row; a repetition has the same id.

        Also where the row has it: an opposite command may be on its way, and is to be followed by this one.
        """
        by = {"ritual": job.ritual, "why": f"by {job.requested_by}, as fine-tuning job {job.id}"}
        if job.cancel_requested_at and not ritual.cancel_requested_at:
            await bus.publish(self._context.nats, RitualCancel(**by), f"{job.id}/cancel")
        if job.pending is None:
            return
        assert job.pending_at
        if job.pending == "pause" and state not in NEEDS_ANVIL:
            await store.clear_pending(self._pool, job)
            await self._jobs.record(job.id, Event(f"no-pause/{datetime.now(UTC).isoformat()}", NO_PAUSE, "warn"))
            return
        kind = RitualPause if job.pending == "pause" else RitualResume
        command = kind(**by, by=job.requested_by)
        await bus.publish(self._context.nats, command, f"{job.id}/{job.pending}/{job.pending_at.isoformat()}")
        if (job.pending == "pause") == (ritual.paused_at is not None):
            await store.clear_pending(self._pool, job)


def find_wait(state: State, ritual: RitualState, facts: Sequence[Fact]) -> Wait | None:
    """What a ritual in this state waits for; None where it works."""
    if ritual.paused_at and state in NEEDS_ANVIL:
        return Wait(f"a resume: it is paused ({ritual.paused_why})" if ritual.paused_why else "a resume: it is paused")
    if state is State.HARVESTED:
        reason = (ritual.reason or "the GPU").removeprefix("waits: ")
        return Wait(reason, ritual.until)
    if state is State.AWAITING_APPROVAL:
        until = max((fact.until for fact in facts if isinstance(fact, AdapterProposed)), default=None)
        return Wait("its owner's approval (soulforge approve)", until)
    return None
