"""The ritual ledger: opens rituals and records facts about them by compare-and-set, each with its outbox row.

Everything here runs inside the caller's short transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar
from uuid import UUID

from shared.contracts.evacuate import GpuInterrupted
from shared.contracts.intent import TrainingIntent
from shared.contracts.message import Fact, ritual_id
from shared.contracts.ritual import ENDS, NEEDS_ANVIL, State, leads_from
from shared.messaging.outbox import enqueue
from shared.ritual import trace

if TYPE_CHECKING:
    from shared.storage.postgres import Connection, Pool

FactType = TypeVar("FactType", bound=Fact)


class AttemptKey(TypedDict):
    """The fields that identify an attempt at a ritual in every fact."""

    ritual: UUID
    persona: str
    attempt: int


@dataclass(frozen=True)
class Ritual:
    """A row of the ledger."""

    id: UUID
    intent_id: str
    persona: str
    intent_body: dict[str, Any]
    priority: int
    state: State
    version: int
    attempt: int
    trace_id: str
    parent_span_id: str | None
    cancel_requested_at: datetime | None
    cancel_why: str | None
    paused_at: datetime | None
    paused_why: str | None
    created_at: datetime
    entered_at: datetime
    ended_at: datetime | None

    @property
    def intent(self) -> TrainingIntent:
        """Parsed where it is used: a row that cannot be read is an error of its ritual, not of a list. Raises ValidationError."""
        return TrainingIntent.model_validate(self.intent_body)

    @property
    def key(self) -> AttemptKey:
        """The present attempt, as in `AdapterFailed(**ritual.key, reason=…)`."""
        return AttemptKey(ritual=self.id, persona=self.persona, attempt=self.attempt)


COLUMNS = ", ".join(Ritual.__dataclass_fields__).replace("intent_body", "intent AS intent_body")


def as_ritual(row: Any) -> Ritual:
    return Ritual(**{**row, "state": State(row["state"])})


async def open_ritual(conn: Connection, intent: TrainingIntent, intent_id: str, traceparent: str | None) -> UUID:
    """Open the ritual of an intent; the same intent id opens it once. Returns its id."""
    ritual = ritual_id(intent_id)
    trace_id, parent = trace.begin(ritual, traceparent)
    await conn.execute(
        "INSERT INTO ritual (id, intent_id, persona, intent, priority, state, trace_id, parent_span_id, refines) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
        ritual,
        intent_id,
        intent.persona,
        intent.model_dump(mode="json"),
        intent.priority,
        State.INTENDED,
        trace_id,
        parent,
        intent.refines,
    )
    return ritual


async def count_refinements(conn: Connection | Pool, ritual: UUID) -> int:
    """Count the rituals that refine the same first one as this ritual does, itself included; none refines that one."""
    count: int = await conn.fetchval(
        """
        WITH RECURSIVE up AS (
            SELECT id, refines FROM ritual WHERE id = $1
            UNION SELECT r.id, r.refines FROM ritual r JOIN up ON r.id = up.refines
        ), lineage AS (
            SELECT id FROM up WHERE refines IS NULL
            UNION SELECT r.id FROM ritual r JOIN lineage ON r.refines = lineage.id
        )
        SELECT count(*) - 1 FROM lineage
        """,
        ritual,
    )
    return count


async def record_fact(conn: Connection, fact: Fact, owner: str, started_at: datetime, fence: int | None = None) -> bool:
    """Record `fact` and move its ritual, or return False and change nothing.

    False means that the ritual is not in a state this fact leads from, is at another attempt, or (where `fence` is
    given) holds no live lease with that fence: another writer was faster, and the rows are the truth.
    A fact without a transition (`gpu.restored`) is recorded in any state.
    """
    moves = leads_from(type(fact))
    row = await conn.fetchrow(
        """
        WITH before AS (
            SELECT id, state FROM ritual
            WHERE id = $1 AND (cardinality($3::text[]) = 0 OR (attempt = $2 AND state = ANY ($3::text[])))
              AND ($5::bigint IS NULL OR EXISTS (
                  SELECT 1 FROM lease
                  WHERE ritual = $1 AND lease.fence = $5 AND is_live(lease)))
            FOR UPDATE
        ), fact AS (
            INSERT INTO ritual_fact (event_id, ritual, subject, step, owner, attempt, state_before, state_after, body, started_at)
            SELECT $6, id, $7, $8, $9, $2, state, coalesce($4::jsonb ->> state, state), $10, $11 FROM before
            ON CONFLICT DO NOTHING
            RETURNING state_before, state_after
        )
        UPDATE ritual SET
            state = fact.state_after,
            version = version + 1,
            attempt = attempt + CASE WHEN $7 = $13 THEN 1 ELSE 0 END,
            entered_at = CASE WHEN fact.state_after <> fact.state_before THEN clock_timestamp() ELSE entered_at END,
            ended_at = CASE WHEN fact.state_after = ANY ($12::text[]) THEN coalesce(ended_at, clock_timestamp()) ELSE ended_at END
        FROM fact WHERE id = $1
        RETURNING trace_id
        """,
        fact.ritual,
        fact.attempt,
        list(moves),
        moves,
        fence,
        fact.event_id,
        fact.subject,
        fact.step,
        owner,
        fact.details(),
        started_at,
        list(ENDS),
        GpuInterrupted.subject,
    )
    if row is None:
        return False
    headers = {"traceparent": trace.parent(row["trace_id"], trace.fact_span_id(fact.event_id))}
    await enqueue(conn, fact, fact.event_id, headers)
    return True


async def get_ritual(conn: Connection | Pool, ritual: UUID) -> Ritual | None:
    row = await conn.fetchrow(f"SELECT {COLUMNS} FROM ritual WHERE id = $1", ritual)
    return as_ritual(row) if row else None


async def list_rituals(conn: Connection | Pool, *states: State) -> list[Ritual]:
    """List the rituals in these states, by priority, then by age."""
    rows = await conn.fetch(
        f"SELECT {COLUMNS} FROM ritual WHERE state = ANY ($1::text[]) ORDER BY priority DESC, created_at, id",
        [str(state) for state in states],
    )
    return [as_ritual(row) for row in rows]


async def get_fact(conn: Connection | Pool, ritual: UUID, kind: type[FactType]) -> FactType | None:
    """The latest fact of that class about a ritual; None where there is none. Raises ValidationError."""
    row = await conn.fetchrow(
        "SELECT f.ritual, r.persona, f.attempt, f.body FROM ritual_fact f JOIN ritual r ON r.id = f.ritual "
        "WHERE f.ritual = $1 AND f.subject = $2 ORDER BY f.attempt DESC LIMIT 1",
        ritual,
        kind.subject,
    )
    return as_fact(kind, row) if row else None


def as_fact(kind: type[FactType], row: Any) -> FactType:
    """Make the fact of a row with its body, ritual, persona and attempt. Raises ValidationError."""
    return kind.model_validate({**row["body"], **{name: row[name] for name in ("ritual", "persona", "attempt")}})


async def require_fact(conn: Connection | Pool, ritual: UUID, kind: type[FactType]) -> FactType:
    """The latest fact of that class, which a ritual in this state must have. Raises RuntimeError where it has none."""
    if found := await get_fact(conn, ritual, kind):
        return found
    raise RuntimeError(f"ritual {ritual} has no {kind.subject}")


async def count_failures(conn: Connection | Pool, ritual: UUID, started: bool = True) -> int:
    """Count the lost attempts at the GPU work, without those that ended because the anvil was reclaimed, or that ran out of
    memory and go on with less.

    Those whose job never `started` are counted apart.
    """
    count: int = await conn.fetchval(
        "SELECT count(*) FROM ritual_fact WHERE ritual = $1 AND subject = $2 "
        "AND NOT coalesce((body ->> 'asked')::boolean, false) AND coalesce((body ->> 'started')::boolean, true) = $3 "
        "AND body ->> 'rows_at_once' IS NULL",
        ritual,
        GpuInterrupted.subject,
        started,
    )
    return count


async def get_rows_without_memory(conn: Connection | Pool, ritual: UUID) -> int | None:
    """The fewest rows at once with which a training of the ritual ran out of memory; None where none did."""
    rows: int | None = await conn.fetchval(
        "SELECT min((body ->> 'rows_at_once')::int) FROM ritual_fact WHERE ritual = $1 AND subject = $2",
        ritual,
        GpuInterrupted.subject,
    )
    return rows


async def request_cancel(conn: Connection | Pool, ritual: UUID, why: str) -> bool:
    """Flag a ritual to end at its next safe point. False when it is unknown, ended, or flagged already."""
    return bool(
        await conn.fetchval(
            "UPDATE ritual SET cancel_requested_at = clock_timestamp(), cancel_why = $2 "
            "WHERE id = $1 AND ended_at IS NULL AND cancel_requested_at IS NULL RETURNING true",
            ritual,
            why,
        )
    )


async def request_pause(conn: Connection | Pool, ritual: UUID, why: str, published_at: datetime) -> bool:
    """Flag a ritual to take no anvil, and to leave the one that it holds.

    False when it is unknown, needs none any more, or a newer pause or resume is recorded: this one was delivered late.
    """
    return bool(
        await conn.fetchval(
            "UPDATE ritual SET paused_at = coalesce(paused_at, clock_timestamp()), paused_why = $2, pause_changed_at = $3 "
            "WHERE id = $1 AND state = ANY ($4::text[]) AND (pause_changed_at IS NULL OR pause_changed_at < $3) RETURNING true",
            ritual,
            why,
            published_at,
            list(NEEDS_ANVIL),
        )
    )


async def request_resume(conn: Connection | Pool, ritual: UUID, published_at: datetime) -> bool:
    """Let a paused ritual wait for the anvil again, from now on: the pause does not count as its wait.

    False when it is unknown, ended, or a newer pause or resume is recorded.
    """
    return bool(
        await conn.fetchval(
            "UPDATE ritual SET paused_at = NULL, paused_why = NULL, pause_changed_at = $2, "
            "entered_at = CASE WHEN paused_at IS NOT NULL AND state = $3 THEN clock_timestamp() ELSE entered_at END "
            "WHERE id = $1 AND ended_at IS NULL AND (pause_changed_at IS NULL OR pause_changed_at < $2) RETURNING true",
            ritual,
            published_at,
            State.HARVESTED,
        )
    )
