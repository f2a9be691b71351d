"""SQL of jobs and their events. An event's number is given under the lock of its job: readers that go by it miss none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from shared.contracts.text import clean

if TYPE_CHECKING:
    from shared.storage.postgres import Connection, Source

Status = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
ENDS = frozenset({"succeeded", "failed", "cancelled"})
LONGEST_MESSAGE = 4000  # characters of an event


@dataclass(frozen=True)
class Job:
    """A row of the table, which has a comment for each column."""

    id: str
    ritual: UUID
    key: str
    requested_by: str
    persona: str
    model: str
    asked: dict[str, Any]
    body_digest: str
    seed: int
    training_file: str
    validation_file: str | None
    vouched_by: str | None
    status: Status
    records: int | None
    published: int
    stored: int
    stored_at: datetime
    intent_sent_at: datetime | None
    waits_for: str | None
    waits_until: datetime | None
    pending: Literal["pause", "resume"] | None
    pending_at: datetime | None
    cancel_requested_at: datetime | None
    fine_tuned_model: str | None
    error: dict[str, Any] | None
    trained_tokens: int | None
    last_seq: int
    errors: int
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True)
class Event:
    """What is to be known of a job. It is recorded once per `source`: the id of a fact, or the name of a step."""

    source: str
    message: str
    level: Literal["info", "warn", "error"] = "info"
    type: Literal["message", "metrics"] = "message"
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RecordedEvent:
    """An event with its number in its job."""

    seq: int
    at: datetime
    event: Event


COLUMNS = ", ".join(Job.__dataclass_fields__)
OWN = "($1::text IS NULL OR key = $1)"  # $1: the key whose jobs may be seen; null: all


async def insert_job(
    conn: Connection, job: dict[str, Any], idempotency_key: str | None, events: Sequence[Event]
) -> bool:
    """Insert a job with its first events; False where its key has used the idempotency key before."""
    columns = {**job, "idempotency_key": idempotency_key, "last_seq": len(events)}
    places = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
    inserted = await conn.fetchval(
        f"INSERT INTO job ({', '.join(columns)}) VALUES ({places}) ON CONFLICT DO NOTHING RETURNING true",
        *columns.values(),
    )
    if inserted:
        await _insert_events(conn, job["id"], 0, events)
    return bool(inserted)


async def find_repeated(source: Source, key: str, idempotency_key: str) -> Job | None:
    """The job that a key made with this idempotency key."""
    row = await source.fetchrow(
        f"SELECT {COLUMNS} FROM job WHERE key = $1 AND idempotency_key = $2", key, idempotency_key
    )
    return Job(**row) if row else None


async def count_open(source: Source, key: str) -> int:
    """How many jobs of a key have not ended."""
    count: int = await source.fetchval("SELECT count(*) FROM job WHERE key = $1 AND ended_at IS NULL", key)
    return count


async def get_job(source: Source, key: str | None, id: str) -> Job | None:
    """A job that `key` may see."""
    row = await source.fetchrow(f"SELECT {COLUMNS} FROM job WHERE {OWN} AND id = $2", key, id)
    return Job(**row) if row else None


async def list_jobs(
    source: Source, key: str | None, limit: int, after: str | None, metadata: dict[str, str] | None, without: bool
) -> list[Job]:
    """The jobs that `key` may see, the newest first, from behind the job `after` on.

    With all of `metadata`; `without`: with none at all.
    """
    rows = await source.fetch(
        f"SELECT {COLUMNS} FROM job WHERE {OWN} AND ($4::jsonb IS NULL OR asked -> 'metadata' @> $4) "
        "AND (NOT $5 OR asked -> 'metadata' = 'null') "
        "AND ($3::text IS NULL OR (created_at, id) < (SELECT created_at, id FROM job WHERE id = $3)) "
        "ORDER BY created_at DESC, id DESC LIMIT $2",
        key,
        limit,
        after,
        metadata or None,
        without,
    )
    return [Job(**row) for row in rows]


async def list_due(source: Source) -> list[Job]:
    """The jobs that have not ended and whose next try is due, the oldest first."""
    rows = await source.fetch(
        f"SELECT {COLUMNS} FROM job WHERE ended_at IS NULL AND retry_at <= clock_timestamp() ORDER BY created_at, id"
    )
    return [Job(**row) for row in rows]


async def find_by_ritual(source: Source, ritual: UUID) -> str | None:
    """The open job of a ritual."""
    found: str | None = await source.fetchval("SELECT id FROM job WHERE ritual = $1 AND ended_at IS NULL", ritual)
    return found


async def lock_open(conn: Connection, id: str) -> Job | None:
    """A job that has not ended, until the end of the transaction."""
    row = await conn.fetchrow(f"SELECT {COLUMNS} FROM job WHERE id = $1 AND ended_at IS NULL FOR UPDATE", id)
    return Job(**row) if row else None


async def change(conn: Connection, job: Job, events: Sequence[Event], changes: dict[str, Any]) -> None:
    """Record events of a locked job, and change columns of it. A status that is an end ends it."""
    changes = {**changes, "last_seq": await _insert_events(conn, job.id, job.last_seq, events)}
    columns = [f"{name} = ${place}" for place, name in enumerate(changes, 2)]
    if changes.get("status") in ENDS:
        columns.append("ended_at = clock_timestamp()")
    await conn.execute(f"UPDATE job SET {', '.join(columns)} WHERE id = $1", job.id, *changes.values())


async def clear_errors(source: Source, id: str) -> None:
    await source.execute("UPDATE job SET errors = 0 WHERE id = $1", id)


async def clear_pending(source: Source, job: Job) -> None:
    """Forget what the client asked for, unless it has asked for something else since."""
    await source.execute(
        "UPDATE job SET pending = NULL WHERE id = $1 AND pending_at IS NOT DISTINCT FROM $2", job.id, job.pending_at
    )


async def postpone(source: Source, id: str, delay_s: float) -> None:
    """Let a job wait for its next try."""
    await source.execute(
        "UPDATE job SET retry_at = clock_timestamp() + make_interval(secs => $2) WHERE id = $1", id, delay_s
    )


async def list_sources(source: Source, job: str) -> set[str]:
    """The sources of the events that are recorded."""
    return {row["source"] for row in await source.fetch("SELECT source FROM job_event WHERE job = $1", job)}


async def _insert_events(conn: Connection, job: str, seq: int, events: Sequence[Event]) -> int:
    """Insert those whose source is new; returns the last number."""
    for event in events:
        inserted = await conn.fetchval(
            "INSERT INTO job_event (job, seq, level, type, message, data, source) VALUES ($1, $2, $3, $4, $5, $6, $7) "
            "ON CONFLICT (job, source) DO NOTHING RETURNING true",
            job,
            seq + 1,
            event.level,
            event.type,
            clean(event.message)[:LONGEST_MESSAGE],
            clean(event.data),
            event.source,
        )
        seq += bool(inserted)
    return seq


async def list_events_after(source: Source, job: str, seq: int, limit: int) -> list[RecordedEvent]:
    """The events of a job behind a number, in their order."""
    return await _list_events(source, "job = $1 AND seq > $2 ORDER BY seq LIMIT $3", job, seq, limit)


async def list_events_before(source: Source, job: str, seq: int | None, limit: int) -> list[RecordedEvent]:
    """The events of a job before a number, the newest first."""
    where = "job = $1 AND ($2::int IS NULL OR seq < $2) ORDER BY seq DESC LIMIT $3"
    return await _list_events(source, where, job, seq, limit)


async def _list_events(source: Source, where: str, *values: Any) -> list[RecordedEvent]:
    rows = await source.fetch(
        f"SELECT seq, at, source, message, level, type, data FROM job_event WHERE {where}", *values
    )
    names = ("source", "message", "level", "type", "data")
    return [RecordedEvent(row["seq"], row["at"], Event(**{name: row[name] for name in names})) for row in rows]


@dataclass(frozen=True)
class RitualState:
    """What the ledger and the orchestrator have about the ritual of a job."""

    state: str
    cancel_requested_at: datetime | None
    paused_at: datetime | None
    paused_why: str | None
    reason: str | None
    until: datetime | None


async def get_ritual_state(source: Source, ritual: UUID) -> RitualState | None:
    row = await source.fetchrow(
        "SELECT r.state, r.cancel_requested_at, r.paused_at, r.paused_why, d.reason, d.until FROM public.ritual r "
        "LEFT JOIN public.ritual_decision d ON d.ritual = r.id AND d.verdict = 'wait' WHERE r.id = $1",
        ritual,
    )
    return RitualState(**row) if row else None


async def count_karma(source: Source, sources: Sequence[str], persona: str) -> dict[str, int]:
    """How many records of these sources the harvester has stored, by status."""
    rows = await source.fetch(
        "SELECT status, sum(records)::bigint AS records FROM public.karma_source "
        "WHERE source = ANY ($1::text[]) AND persona = $2 GROUP BY status",
        list(sources),
        persona,
    )
    return {row["status"]: row["records"] for row in rows}
