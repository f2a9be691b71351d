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
from services.gateway.keys.store import get_key
from shared.contracts.intent import TrainingIntent
from shared.contracts.karma import Status
from shared.contracts.text import clean
from shared.runtime.presence import list_silent
from shared.storage.postgres import UNREACHABLE

if TYPE_CHECKING:
    from services.gateway.files.store import StoredFile
    from services.gateway.jobs.jobs import Jobs
    from services.gateway.jobs.store import Job
    from shared.runtime.context import ServiceContext

AGAIN = "again/"  # begins the source of an event
SOON_S = 0.05
FIRST_DELAY_S, LONGEST_DELAY_S = 2.0, 60.0  # between two tries of a job that meets errors
MOST_ERRORS = 8  # in a row
ASK_AGAIN_S = 5.0
PUBLISH_AGAIN_S = 300.0  # without one more record stored: what was published may be lost
MOST_HAND_OVERS = 3
MOST_AHEAD = 2000  # records published and not stored yet
HARVESTER_SILENT_S = 20.0
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
        self._away: BusAwayError | None = None  # in this pass

    async def run(self) -> float | None:
        """Make one pass; returns the seconds until the next one where something is left to do."""
        more = False
        self._away, due = None, await store.list_due(self._pool)
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
            return False
        try:
            if self._away:  # no job waits for the time in which another has found that out
                raise self._away
            return await self._advance_to_ritual(job)
        except BusAwayError as away:
            self._away = away
            await self._wait(job, Wait(away.waits_for))
            raise

    async def _advance_to_ritual(self, job: Job) -> bool:
        if job.intent_sent_at:
            await self._request_ritual(job)
            return False
        await self._expect_key(job)
        if job.records is None:
            return await self._check_files(job)
        if job.published < job.records:
            return await self._publish(job)
        if await self._is_ready(job):
            await self._request_ritual(job)
        return False

    async def _expect_key(self, job: Job) -> None:
        """Raise UnusableError where the key that made the job opens nothing now."""
        key = await get_key(self._pool, job.key)
        if key and (trouble := key.find_trouble()):
            raise UnusableError("key_revoked", f"the key {key.id}, which made the job, {trouble}")

    async def _files(self, job: Job) -> list[StoredFile]:
        """The files of a job. Raises UnusableError where one cannot be used."""
        found, preferences = [], JobRequest.model_validate(job.asked).learns_preferences
        for param, id in (("training_file", job.training_file), ("validation_file", job.validation_file)):
            if id is None:
                continue
            file = await get_file(self._pool, self._context.settings.home, id)
            trouble = find_trouble(file, param, preferences=preferences) if file else "it is gone"
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
        if job.published >= MOST_AHEAD:
            stored = sum((await store.count_karma(self._pool, sources_of(job), job.persona)).values())
            if job.published - stored >= MOST_AHEAD:
                return await self._wait_until_stored(job, stored)
        published = await self._records.publish_some(job, await self._files(job))
        if published == job.published:
            raise RuntimeError(f"the files have {published} records, and had {job.records} when they were checked")
        events = [handed_over(job)] if published == job.records else []
        changes = {"published": published, "stored_at": datetime.now(UTC), "waits_for": None, "waits_until": None}
        return await self._jobs.record(job.id, *events, **changes)

    async def _is_ready(self, job: Job) -> bool:
        """Whether the records are stored and vouched for, and the client does not hold the job back."""
        assert job.records
        if job.pending == "pause":
            return await self._wait(job, Wait("a resume: the job is paused"))
        counts = await store.count_karma(self._pool, sources_of(job), job.persona)
        stored, speculative = sum(counts.values()), counts.get(Status.SPECULATIVE, 0)
        if stored < job.records:
            return await self._wait_until_stored(job, stored)
        # A worse answer stays speculative: only its correction is vouched for.
        worse = sum((file.records or 0) - (file.examples or 0) for file in await self._files(job))
        if speculative > worse:
            named = " ".join(f"--source {source}" for source in sources_of(job))
            command = f"soulforge karma consecrate --persona {job.persona} {named} --by WHO"
            return await self._wait(job, Wait(f"the consecration of {speculative} of {stored} records ({command})"))
        if not counts.get(Status.WHITE_TRUTH):
            raise UnusableError(
                "not_consecrated", f"all {stored} records were rejected or revoked: none is to be trained"
            )
        return True

    async def _wait_until_stored(self, job: Job, stored: int) -> bool:
        """Wait for the harvester; what it does not store for long while it is at work is published again, some times."""
        now = datetime.now(UTC)
        if stored != job.stored:
            await self._jobs.record(job.id, stored=stored, stored_at=now)
        elif now - job.stored_at > timedelta(seconds=PUBLISH_AGAIN_S):
            if await list_silent(self._pool, ["harvester"], HARVESTER_SILENT_S):
                await self._jobs.record(job.id, stored_at=now)
            else:
                return await self._publish_again(job, stored)
        return await self._wait(job, Wait(f"the harvester, which has stored {stored} of {job.records} records"))

    async def _publish_again(self, job: Job, stored: int) -> bool:
        """Let all records be handed over again; False. Raises UnusableError where that was done often enough."""
        known = await store.list_sources(self._pool, job.id)
        handed_over = 1 + sum(source.startswith(AGAIN) for source in known)
        if handed_over >= MOST_HAND_OVERS:
            raise UnusableError(
                "not_stored",
                f"the harvester has stored {stored} of {job.records} records after {handed_over} times in which they were "
                "handed over: `soulforge dead-letters list` has what it could not store",
            )
        event = Event(
            f"{AGAIN}{handed_over}",
            f"{stored} of {job.records} records are stored: they are handed over again",
            "warn",
        )
        await self._jobs.record(job.id, event, published=0, stored_at=datetime.now(UTC))
        return False

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
            changes |= {"waits_for": None, "waits_until": None}
            await store.change(conn, locked, [event], changes)
        self._jobs.announce()
        return True


def sources_of(job: Job) -> list[str]:
    return [source_of(file) for file in (job.training_file, job.validation_file) if file]


def intent_of(job: Job) -> TrainingIntent:
    """The intent of a job: the same bytes each time."""
    request = JobRequest.model_validate(job.asked)
    return TrainingIntent(
        persona=job.persona,
        id=job.id,
        recipe=request.recipe,
        overrides=request.overrides,
        seed=job.seed,
        sources=(source_of(job.training_file),),
        dev_sources=(source_of(job.validation_file),) if job.validation_file else (),
        requested_by=job.requested_by,
        why=f"fine-tuning job {job.id}",
    )
