"""Bring every job on, by what its row, the harvester's records and the ledger show: each pass does what is left to do.

Check the files, hand over their records, wait until these are stored and vouched for, ask for the ritual, follow it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from services.gateway.files.store import get_file
from services.gateway.jobs import bus, store
from services.gateway.jobs.bus import BusAwayError
from services.gateway.jobs.create import find_trouble
from services.gateway.jobs.follow import Follower
from services.gateway.jobs.records import Records, handed_over, source_of
from services.gateway.jobs.request import JobRequest
from services.gateway.jobs.store import Event
from services.gateway.jobs.waiting import Wait, wait_changes
from shared.contracts.intent import TrainingIntent
from shared.contracts.karma import Status
from shared.contracts.text import clean
from shared.storage.postgres import UNREACHABLE

if TYPE_CHECKING:
    from services.gateway.files.store import StoredFile
    from services.gateway.jobs.jobs import Jobs
    from services.gateway.jobs.store import Job
    from shared.runtime.context import ServiceContext

SOON_S = 0.05
FIRST_DELAY_S, LONGEST_DELAY_S = 2.0, 60.0  # between two tries of a job that meets errors
MOST_ERRORS = 8  # in a row
ASK_AGAIN_S = 5.0
PUBLISH_AGAIN_S = 300.0  # without one more record stored: what was published may be lost
log = structlog.get_logger()


class UnusableError(Exception):
    """The job cannot become a ritual, however often it is tried: its code, and why."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, "param": param}


class JobReconciler:
    """The pass over all jobs that have not ended."""

    def __init__(self, context: ServiceContext, jobs: Jobs) -> None:
        self._context, self._pool, self._jobs = context, context.pool, jobs
        self._records = Records(context.nats)
        self._follower = Follower(context, jobs)

    async def run(self) -> float | None:
        """Make one pass; returns the seconds until the next one where something is left to do."""
        more = False
        due = await store.list_due(self._pool)
        self._records.keep_only({job.id for job in due})
        for job in due:
            try:
                more |= await self._try(job)
            except BusAwayError as error:
                log.warning("jobs wait for the bus", job=job.id, error=str(error))
                await store.postpone(self._pool, job.id, ASK_AGAIN_S)
        return SOON_S if more else None

    async def _try(self, job: Job) -> bool:
        """Bring one job on; True where there is more to do at once. An error is the job's own. Raises BusAwayError, UNREACHABLE."""
        try:
            more = await self._advance(job)
        except UnusableError as unusable:
            event = Event("end", str(unusable), "error")
            await self._jobs.record(
                job.id, event, status="failed", error=unusable.error, waits_for=None, waits_until=None
            )
            return False
        except (BusAwayError, *UNREACHABLE):
            raise
        except Exception as error:
            log.error("job met an error", job=job.id, exc_info=error)
            await self._count_error(job, clean(f"{type(error).__name__}: {error}"))
            return False
        if job.errors:
            await store.clear_errors(self._pool, job.id)
        return more

    async def _count_error(self, job: Job, text: str) -> None:
        """Show an error as an event, and try again later; the last of MOST_ERRORS ends the job."""
        count = job.errors + 1
        at = Event(f"error/{datetime.now(UTC).isoformat()}", f"Error {count} of {MOST_ERRORS} in a row: {text}", "warn")
        if count >= MOST_ERRORS:
            error = {"code": "internal_error", "message": f"given up after {count} errors: {text}", "param": None}
            end = Event("end", f"The job has failed: {error['message']}", "error")
            await self._jobs.record(job.id, at, end, status="failed", error=error, waits_for=None, waits_until=None)
        else:
            await self._jobs.record(job.id, at, errors=count)
            await store.postpone(self._pool, job.id, min(FIRST_DELAY_S * 2**job.errors, LONGEST_DELAY_S))

    async def _advance(self, job: Job) -> bool:
        if ritual := await store.get_ritual_state(self._pool, job.ritual):
            await self._follower.follow(job, ritual)
        elif job.intent_sent_at:
            await self._request_ritual(job)
        elif job.records is None:
            return await self._check_files(job)
        elif job.published < job.records:
            return await self._publish(job)
        elif await self._is_ready(job):
            await self._request_ritual(job)
        return False

    async def _files(self, job: Job) -> list[StoredFile]:
        """The files of a job. Raises UnusableError where one cannot be used."""
        found = []
        for param, id in (("training_file", job.training_file), ("validation_file", job.validation_file)):
            if id is None:
                continue
            file = await get_file(self._pool, self._context.settings.home, id)
            trouble = find_trouble(file, param) if file else "it is gone"
            if file is None or trouble:
                raise UnusableError("invalid_training_file", f"{id} cannot be used: {trouble}", param)
            found.append(file)
        return found

    async def _check_files(self, job: Job) -> bool:
        files = await self._files(job)
        if unchecked := [file.id for file in files if file.records is None]:
            await self._wait(job, Wait(f"the check of {', '.join(unchecked)}"))
            return False
        records = sum(file.records or 0 for file in files)
        event = Event("validated", f"The files are valid: {records} records", data={"records": records})
        return await self._jobs.record(job.id, event, records=records, waits_for=None, waits_until=None)

    async def _publish(self, job: Job) -> bool:
        published = await self._records.publish_some(job, await self._files(job))
        if published == job.published:
            raise RuntimeError(f"the files have {published} records, and had {job.records} when they were checked")
        events = [handed_over(job)] if published == job.records else []
        return await self._jobs.record(job.id, *events, published=published, stored_at=datetime.now(UTC))

    async def _is_ready(self, job: Job) -> bool:
        """Whether the records are stored and vouched for, and the client does not hold the job back."""
        assert job.records
        if job.pending == "pause":
            return await self._wait(job, Wait("a resume: the job is paused"))
        counts = await store.count_karma(self._pool, sources_of(job), job.persona)
        stored, speculative = sum(counts.values()), counts.get(Status.SPECULATIVE, 0)
        if stored < job.records:
            return await self._wait_until_stored(job, stored)
        if speculative:
            text = f"the consecration of {speculative} of {stored} records (soulforge consecrate {job.persona})"
            return await self._wait(job, Wait(text))
        if not counts.get(Status.WHITE_TRUTH):
            raise UnusableError(
                "not_consecrated", f"all {stored} records were rejected or revoked: none is to be trained"
            )
        return True

    async def _wait_until_stored(self, job: Job, stored: int) -> bool:
        """Wait for the harvester; what it does not store for long is published again."""
        now = datetime.now(UTC)
        if stored != job.stored:
            await self._jobs.record(job.id, stored=stored, stored_at=now)
        elif now - job.stored_at > timedelta(seconds=PUBLISH_AGAIN_S):
            event = Event(
                f"again/{now.isoformat()}",
                f"{stored} of {job.records} records are stored: they are handed over again",
                "warn",
            )
            return await self._jobs.record(job.id, event, published=0) and False
        return await self._wait(job, Wait(f"the harvester, which has stored {stored} of {job.records} records"))

    async def _wait(self, job: Job, wait: Wait) -> bool:
        """Show what the job waits for; False."""
        if change := wait_changes(job, wait):
            status = "queued" if job.records and job.published == job.records else "validating_files"
            await self._jobs.record(job.id, *change.events, **change.columns, status=status)
        return False

    async def _request_ritual(self, job: Job) -> None:
        """Send the intent until there is a ritual: also where the job is cancelled meanwhile, as an earlier one may open it."""
        if job.intent_sent_at is None and not await self._mark_sent(job):
            return
        refused = await bus.request_ritual(self._context.nats, intent_of(job))
        if refused:
            raise UnusableError("intent_refused", f"the harvester refused the intent: {refused}")
        self._jobs.woken.set()

    async def _mark_sent(self, job: Job) -> bool:
        """Note that there may be a ritual from now on; False where the job was cancelled or paused at that moment."""
        async with self._pool.acquire() as conn, conn.transaction():
            locked = await store.lock_open(conn, job.id)
            if locked is None or locked.pending == "pause":
                return False
            event = Event("requested", f"The ritual {job.ritual} is requested")
            changes = {"intent_sent_at": datetime.now(UTC), "status": "queued", "pending": None}
            await store.change(conn, locked, [event], changes)
        self._jobs.announce()
        return True


def sources_of(job: Job) -> list[str]:
    return [source_of(file) for file in (job.training_file, job.validation_file) if file]


def intent_of(job: Job) -> TrainingIntent:
    """The intent of a job: the same bytes each time."""
    return TrainingIntent(
        persona=job.persona,
        id=job.id,
        overrides=JobRequest.model_validate(job.asked).overrides,
        seed=job.seed,
        sources=(source_of(job.training_file),),
        dev_sources=(source_of(job.validation_file),) if job.validation_file else (),
        requested_by=job.requested_by,
        why=f"fine-tuning job {job.id}",
    )
