"""What a client commands about its job. Recorded in its row first; the reconciler carries it out, however often it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from services.gateway.errors import Refusal
from services.gateway.jobs import store
from services.gateway.jobs.store import Event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.gateway.jobs.jobs import Jobs
    from services.gateway.jobs.store import Job
    from shared.storage.postgres import Connection

Command = Callable[["Jobs", str], Awaitable[None]]


async def cancel(jobs: Jobs, id: str) -> None:
    """Cancel a job: at once where no intent was sent, else once its ritual has ended at a safe point. Raises Refusal."""
    now = datetime.now(UTC)
    async with _locked(jobs, id, "cancel", done="cancelled") as (conn, job):
        if job is None or job.cancel_requested_at:
            return
        if job.intent_sent_at:
            event = Event("cancel", "Cancellation was requested; the job ends at its next safe point")
            await store.change(conn, job, [event], {"cancel_requested_at": now})
        else:
            changes = {"cancel_requested_at": now, "status": "cancelled", "waits_for": None, "waits_until": None}
            await store.change(conn, job, [Event("cancelled", "The job was cancelled")], changes)


async def pause(jobs: Jobs, id: str) -> None:
    """Let a job wait until it is resumed; a running one stops with a checkpoint, and inference comes back. Raises Refusal.

    One that is paused stays as it is.
    """
    await _ask(jobs, id, "pause", "A pause was requested; a running job stops with a checkpoint")


async def resume(jobs: Jobs, id: str) -> None:
    """Let a paused job wait for its turn again; one that is not paused stays as it is. Raises Refusal."""
    await _ask(jobs, id, "resume", "The job was resumed; it waits for its turn")


async def _ask(jobs: Jobs, id: str, asked: Literal["pause", "resume"], message: str) -> None:
    now = datetime.now(UTC)
    async with _locked(jobs, id, asked) as (conn, job):
        assert job, "a job that has ended is refused"
        if await _is_paused(conn, job) != (asked == "pause"):
            event = Event(f"{asked}/{now.isoformat()}", message)
            await store.change(conn, job, [event], {"pending": asked, "pending_at": now})


async def _is_paused(conn: Connection, job: Job) -> bool:
    """Whether a job is paused, or is about to be."""
    if job.pending:
        return job.pending == "pause"
    ritual = await store.get_ritual_state(conn, job.ritual)
    return bool(ritual and ritual.paused_at)


@asynccontextmanager
async def _locked(jobs: Jobs, id: str, verb: str, done: str = "") -> AsyncIterator[tuple[Connection, Job | None]]:
    """A job that has not ended, locked; None where it has ended as `done`. Raises Refusal where it has ended otherwise."""
    async with jobs.database() as pool, pool.acquire() as conn, conn.transaction():
        job = await store.lock_open(conn, id)
        if job is None:
            ended = await store.get_job(conn, None, id)
            if ended is None or ended.status != done:
                how = f"has ended ({ended.status})" if ended else "does not exist"
                raise Refusal(400, "job_ended", f"{id} {how}: there is nothing to {verb}", param="fine_tuning_job_id")
        yield conn, job
    jobs.announce()
    jobs.woken.set()
