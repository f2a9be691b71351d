"""SQL of the manifest: segments placed and read, and what is kept of them. What is decided stands in `decide`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import UUID

from services.harvester.golden.join import CHECKS, GOLDEN, MESSAGES, TOOLS
from services.harvester.manifest.segments import Content, KnownSegment, Segment, Written
from services.harvester.statements import drop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from shared.contracts.harvest import KarmaHarvested
    from shared.storage.postgres import Connection, Pool

_RECORD = (
    "id, persona, messages, status, outcome, why, consecrated_by, consecrated_at, session, parent, source, licence, "
    "trace_id, created_at"
)


@asynccontextmanager
async def decisions(pool: Pool, persona: str) -> AsyncIterator[str]:
    """The table for the decisions on a persona's karma, for one harvest at a time; other sessions see it.

    It is gone afterwards; one that a killed harvest left is dropped by the next.
    """
    table = f"harvester.decided_{sha256(persona.encode()).hexdigest()[:16]}"
    async with pool.acquire() as conn:
        await conn.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", table)
        try:
            yield table
        finally:
            if not conn.is_closed():
                await drop(conn, table)
                await conn.execute("SELECT pg_advisory_unlock(hashtextextended($1, 0))", table)


_STRETCH = (
    "SELECT place, min(created_at) AS first_at, max(created_at) AS last_at, count(*) AS seen, "
    "encode(sha256(convert_to($1, 'UTF8') || string_agg(content || convert_to(concat(side, '/', reason), 'UTF8') "
    "|| coalesce(rejected, ''), '' ORDER BY created_at, karma)), 'hex') AS key FROM {table}{where} GROUP BY place"
)


async def place_segments(conn: Connection, table: str, salt: str) -> None:
    """Find the segments of what was decided into `table`; a segment's key says all that it is made of."""
    await conn.execute(f"CREATE UNLOGGED TABLE {table}_stretch AS {_STRETCH.format(table=table, where='')}", salt)


async def place_again(conn: Connection, table: str, salt: str, places: list[int]) -> None:
    """The same for some of the segments."""
    await conn.execute(f"DELETE FROM {table}_stretch WHERE place = ANY ($1::int[])", places)
    stretches = _STRETCH.format(table=table, where=" WHERE place = ANY ($2::int[])")
    await conn.execute(f"INSERT INTO {table}_stretch {stretches}", salt, places)


async def placed_segments(conn: Connection | Pool, table: str) -> list[dict[str, Any]]:
    """The segments in order of time."""
    rows = await conn.fetch(
        f"SELECT s.* FROM {table}_stretch s LEFT JOIN {table}_cut c USING (place) ORDER BY c.created_at NULLS FIRST, c.karma"
    )
    return [dict(row) for row in rows]


async def index_places(conn: Connection | Pool, table: str) -> None:
    name = f"{table.rsplit('.', 1)[-1]}_of_place"
    await conn.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {table} (place)")


async def look_up_one_by_one(conn: Connection) -> None:
    """From here on records are looked up by their keys: to join a segment by reading all karma would cost all karma each time."""
    await conn.execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")


#: The records of a placed segment in order; those that are used with their content. For COPY.
SEGMENT_RECORDS = f"""
    SELECT p.karma, p.session, p.side, p.reason, p.source, p.kind, p.feedback, p.parent, p.tokens, p.redacted, p.rejected,
        CASE WHEN p.reason IS NULL THEN p.found END, k.touched = p.touched, {TOOLS}, {CHECKS}, {MESSAGES}
    FROM {{table}} p LEFT JOIN vectors.karma k ON k.id = p.karma AND p.reason IS NULL {GOLDEN}
    WHERE p.place = $1 ORDER BY p.created_at, p.karma
"""


async def contents(pool: Pool, ids: list[str]) -> dict[str, Content]:
    """What these records hold, where it is what was read of them."""
    if not ids:
        return {}
    rows = await pool.fetch(
        f"SELECT k.id, encode(r.content, 'hex') AS digest, r.redacted, {MESSAGES}::text AS messages, {TOOLS}::text AS tools "
        f"FROM vectors.karma k JOIN reading r ON r.karma = k.id AND r.touched = k.touched {GOLDEN} WHERE k.id = ANY ($1::text[])",
        ids,
    )
    return {row["id"]: Content(row["digest"], row["redacted"], row["messages"], row["tools"]) for row in rows}


async def concentration(conn: Connection | Pool, table: str) -> dict[str, dict[str, int]]:
    """The sessions and sources that most training rows come from."""
    return {
        column: {
            row["name"]: row["used"]
            for row in await conn.fetch(
                f"SELECT name, used FROM {table}_tally WHERE kind = $1 AND used > 0 ORDER BY used DESC, name LIMIT 5",
                column,
            )
        }
        for column in ("session", "source")
    }


async def quarantined(conn: Connection | Pool, table: str) -> dict[str, int]:
    """How often each class of secret or personal data was found in what is held back for it."""
    rows = await conn.fetch(f"SELECT name, used FROM {table}_tally WHERE kind = 'found' AND used > 0 ORDER BY name")
    return {row["name"]: row["used"] for row in rows}


async def known_segments(conn: Connection, keys: list[str]) -> dict[str, KnownSegment]:
    rows = await conn.fetch(
        "SELECT key, files, statistics, (SELECT coalesce(jsonb_object_agg(reason, jsonb_array_length(ids)), '{}') "
        "FROM jsonb_each(excluded) AS left_out (reason, ids)) AS excluded FROM segment WHERE key = ANY ($1::text[])",
        keys,
    )
    return {
        row["key"]: KnownSegment(
            row["key"],
            {name: Written(**file) for name, file in row["files"].items()},
            row["statistics"],
            row["excluded"],
        )
        for row in rows
    }


async def keep_segment(
    conn: Connection | Pool, persona: str, segment: Segment, first_at: datetime, last_at: datetime
) -> None:
    await conn.execute(
        "INSERT INTO segment (key, persona, first_at, last_at, used, excluded, files, statistics) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        segment.key,
        persona,
        first_at,
        last_at,
        segment.used,
        segment.excluded,
        {name: vars(file) for name, file in segment.files.items()},
        segment.statistics,
    )


async def keep_ritual(conn: Connection, ritual: UUID, segments: list[str]) -> None:
    """What the ritual used and left out, and why, is that of its segments."""
    await conn.execute(
        "INSERT INTO ritual_segment (ritual, segment) SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING",
        ritual,
        segments,
    )


async def seal(conn: Connection | Pool, persona: str, table: str, places: list[int] | None) -> None:
    """Seal what was placed in the holdout; `places` are the segments where that is not done yet, None: all of them."""
    await conn.execute(
        f"INSERT INTO sealed (persona, karma) SELECT $1, p.karma FROM {table} p "
        "WHERE p.reason IS NULL AND p.side = 'holdout' AND ($2::int[] IS NULL OR p.place = ANY ($2)) "
        "AND NOT EXISTS (SELECT FROM sealed s WHERE s.persona = $1 AND s.karma = p.karma) "
        "ORDER BY p.karma ON CONFLICT DO NOTHING",  # in the order of the index, which takes a quarter less time
        persona,
        places,
    )


async def keep_manifest(conn: Connection, fact: KarmaHarvested, segments: list[str]) -> None:
    await conn.execute(
        "INSERT INTO manifest (digest, persona, holdout, train, dev, held_out) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        fact.manifest,
        fact.persona,
        fact.holdout,
        fact.train,
        fact.dev,
        fact.held_out,
    )
    await conn.execute(
        "INSERT INTO manifest_segment (manifest, segment) SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING",
        fact.manifest,
        segments,
    )


async def statistics(conn: Connection | Pool) -> list[dict[str, Any]]:
    """Counts of karma per persona and status, with sessions and the newest record's time."""
    rows = await conn.fetch(
        "SELECT persona, count(*) AS records, count(*) FILTER (WHERE status = 'white_truth') AS white_truths, "
        "count(*) FILTER (WHERE status = 'speculative') AS speculative, count(*) FILTER (WHERE status = 'revoked') AS revoked, "
        "count(*) FILTER (WHERE parent IS NOT NULL) AS corrections, count(DISTINCT session) AS sessions, max(created_at) AS newest "
        "FROM vectors.karma GROUP BY persona ORDER BY persona"
    )
    return [dict(row) for row in rows]
