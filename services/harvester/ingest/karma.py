"""SQL that stores karma: records of a file in bulk, and one record whose owner vouches for it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from services.harvester.split import describe_circle, find_circles
from shared.contracts.karma import ChatMessage, KarmaConsecrated, KarmaRecord, KarmaRejected, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.storage.postgres import Connection, Pool

# Column -> its type on arrival; JSON arrives as text, as COPY is binary and knows no JSON.
COLUMNS = {
    "id": "text",
    "persona": "text",
    "messages": "jsonb",
    "status": "text",
    "outcome": "jsonb",
    "why": "text",
    "consecrated_by": "text",
    "consecrated_at": "timestamptz",
    "session": "text",
    "parent": "text",
    "source": "text",
    "licence": "text",
    "kind": "text",
    "tools": "jsonb",
    "purposes": "text[]",
    "feedback": "text",
    "trace_id": "text",
    "created_at": "timestamptz",
}
_NAMES = ", ".join(COLUMNS)
_TABLE = ", ".join(f"{name} {'text' if kind == 'jsonb' else kind}" for name, kind in COLUMNS.items())

_NOW = "clock_timestamp()"


def _arrived(**expressions: str) -> str:
    """The columns as they are stored, some by an expression of their own."""
    return ", ".join(expressions.get(name, name) for name in COLUMNS)


_FROM_TEXT = {name: f"{name}::jsonb" for name, kind in COLUMNS.items() if kind == "jsonb"}
_CREATED = f"coalesce(created_at, {_NOW})"
_CONSECRATED = f"coalesce(consecrated_at, {_NOW})"

_MESSAGES = TypeAdapter(tuple[ChatMessage, ...])
_OBJECTS = TypeAdapter(tuple[dict[str, Any], ...])


class Consecration(StrEnum):
    """What became of a record whose owner vouches for it."""

    DONE = "done"  #: it is a white truth now
    KNOWN = "known"  #: it was one already, with the same messages
    REVOKED = "revoked"  #: consent to it, or to what it corrects, was withdrawn: it stays out
    OTHER = "other"  #: its id belongs to other messages or to another persona


async def store_records(conn: Connection, records: Sequence[KarmaRecord]) -> int:
    """Store new records and return how many; a known one is not changed, a revoked one stays out. Needs a transaction.

    Repeatable. What arrives as revoked is noted as revoked for good.
    """
    await conn.execute(f"CREATE TEMP TABLE IF NOT EXISTS arriving_karma (place int, {_TABLE}) ON COMMIT DELETE ROWS")
    await conn.copy_records_to_table(
        "arriving_karma",
        records=((place, *_values(record)) for place, record in enumerate(records)),
        columns=("place", *COLUMNS),
    )
    return int(
        await conn.fetchval(
            f"""
            WITH stored AS (
                INSERT INTO vectors.karma ({_NAMES})
                SELECT {_arrived(created_at=_CREATED, **_FROM_TEXT)} FROM arriving_karma a
                WHERE NOT EXISTS (SELECT FROM harvester.revocation r WHERE r.karma = a.id)
                ORDER BY place
                ON CONFLICT (id) DO NOTHING
                RETURNING id, status, consecrated_by
            ), noted AS (
                INSERT INTO harvester.revocation (karma, revoked_by, why)
                SELECT id, coalesce(consecrated_by, 'unknown'), 'it came as revoked' FROM stored WHERE status = 'revoked'
                ON CONFLICT DO NOTHING
            )
            SELECT count(*) FROM stored
            """
        )
    )


async def list_circles(source: Connection | Pool, records: Sequence[KarmaRecord]) -> dict[str, str]:
    """id -> the circle of parents that it is part of, as `a → b → a`, for these records with the white truths that are stored."""
    parents = {record.id: record.parent for record in records if record.parent and record.status is not Status.REVOKED}
    if not parents:
        return {}
    stored = await source.fetch(
        """
        WITH RECURSIVE ancestor AS (
            SELECT id, parent FROM vectors.karma
            WHERE id = ANY ($1::text[]) AND parent IS NOT NULL AND status = 'white_truth'
            UNION
            SELECT k.id, k.parent FROM ancestor a JOIN vectors.karma k ON k.id = a.parent
            WHERE k.parent IS NOT NULL AND k.status = 'white_truth'
        )
        SELECT id, parent FROM ancestor
        """,
        list({*parents, *parents.values()}),
    )
    circles = find_circles(parents | dict(stored))
    return {member: describe_circle(circle) for circle in circles for member in circle if member in parents}


# Messages without empty fields: other components may write nulls and empty lists that the contract leaves out.
_SAME = """(
    SELECT jsonb_agg(
        CASE WHEN jsonb_typeof(m) = 'object'
            THEN jsonb_strip_nulls(m) - CASE WHEN m -> 'tool_calls' = '[]' THEN 'tool_calls' ELSE '' END
        END ORDER BY n)
    FROM jsonb_array_elements(CASE WHEN jsonb_typeof({0}) = 'array' THEN {0} END) WITH ORDINALITY AS t (m, n)
)"""
_IS_SAME = f"k.persona = excluded.persona AND {_SAME.format('k.messages')} = {_SAME.format('excluded.messages')}"


async def consecrate(conn: Connection, record: KarmaConsecrated) -> Consecration:
    """Store a white truth, or make one of the speculative or rejected record that it vouches for. Repeatable.

    Outcome, reason, feedback and trace of the message are taken over; all else stays as it was stored.
    """
    marks = ", ".join(
        f"${place}::text::jsonb" if kind == "jsonb" else f"${place}::{kind}"
        for place, kind in enumerate(COLUMNS.values(), start=1)
    )
    changed = await conn.fetchval(
        f"""
        INSERT INTO vectors.karma AS k ({_NAMES})
        SELECT {_arrived(created_at=_CREATED, consecrated_at=_CONSECRATED)} FROM (VALUES ({marks})) AS a ({_NAMES})
        WHERE NOT EXISTS (SELECT FROM harvester.revocation r WHERE r.karma IN (a.id, a.parent))
        ON CONFLICT (id) DO UPDATE SET
            status = 'white_truth', consecrated_by = excluded.consecrated_by, consecrated_at = excluded.consecrated_at,
            outcome = CASE WHEN ${len(COLUMNS) + 1} THEN excluded.outcome ELSE k.outcome END,
            why = coalesce(nullif(excluded.why, ''), k.why), feedback = coalesce(excluded.feedback, k.feedback),
            trace_id = coalesce(excluded.trace_id, k.trace_id)
        WHERE k.status IN ('speculative', 'rejected') AND {_IS_SAME}
        RETURNING true
        """,
        *_values(record),
        "outcome" in record.model_fields_set,
    )
    return Consecration.DONE if changed else await _why_not(conn, record)


async def reject(conn: Connection, rejected: KarmaRejected) -> None:
    """Mark those of these records that are speculative as not to be trained. Repeatable."""
    await conn.execute(
        "UPDATE vectors.karma SET status = 'rejected', why = coalesce(nullif($2, ''), why) "
        "WHERE id = ANY ($1::text[]) AND status = 'speculative'",
        rejected.karma,
        rejected.why,
    )


async def _why_not(conn: Connection, record: KarmaRecord) -> Consecration:
    """Why nothing was written; read afterwards, for the dead letter."""
    row = await conn.fetchrow(
        f"""
        SELECT bool_or(k.status = 'revoked') OR EXISTS (SELECT FROM harvester.revocation WHERE karma IN ($1, $4)) AS revoked,
               bool_and({_IS_SAME}) AS same
        FROM (VALUES ($2::text, $3::text::jsonb)) AS excluded (persona, messages)
        LEFT JOIN vectors.karma k ON k.id = $1
        """,
        record.id,
        record.persona,
        _MESSAGES.dump_json(record.messages, exclude_defaults=True).decode(),
        record.parent,
    )
    if row and row["revoked"]:
        return Consecration.REVOKED
    return Consecration.KNOWN if row and row["same"] else Consecration.OTHER


def _values(record: KarmaRecord) -> tuple[Any, ...]:
    return (
        record.id,
        record.persona,
        _MESSAGES.dump_json(record.messages, exclude_defaults=True).decode(),
        record.status,
        record.outcome.model_dump_json(),
        record.why,
        record.consecrated_by,
        record.consecrated_at,
        record.session,
        record.parent,
        record.source,
        record.licence,
        record.kind,
        _OBJECTS.dump_json(record.tools).decode(),
        list(record.purposes),
        record.feedback,
        record.trace_id,
        record.created_at,
    )
