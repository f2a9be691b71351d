"""SQL of the manifest: segments placed and read, and what is kept of them. What is decided stands in `decide`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from services.harvester.golden.join import CHECKS, GOLDEN, MESSAGES, TOOLS
from services.harvester.manifest.segments import KnownSegment, Segment, Written

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg.cursor import Cursor

    from shared.contracts.harvest import KarmaHarvested
    from shared.postgres import Connection, Pool

_RECORD = (
    "id, persona, messages, status, outcome, why, consecrated_by, consecrated_at, session, parent, source, licence, "
    "trace_id, created_at"
)


async def place_segments(conn: Connection, salt: str) -> list[dict[str, Any]]:
    """Cut what was decided into segments, in the temporary table `placed`; a segment's key says all that it is made of."""
    await conn.execute(
        "CREATE TEMP TABLE placed ON COMMIT DROP AS SELECT sum(cut::int) OVER (ORDER BY created_at, karma) AS place, karma, "
        "created_at, session, side, reason, source, kind, feedback, parent, tokens, redacted, content, rejected FROM decided "
        "ORDER BY created_at, karma"
    )
    await conn.execute("CREATE INDEX ON placed USING brin (place) WITH (pages_per_range = 16); ANALYZE placed (place)")
    rows = await conn.fetch(
        "SELECT place, min(created_at) AS first_at, max(created_at) AS last_at, count(*) AS seen, "
        "encode(sha256(convert_to($1, 'UTF8') || string_agg(content || convert_to(concat(side, '/', reason), 'UTF8') "
        "|| coalesce(rejected, ''), '' ORDER BY created_at, karma)), 'hex') AS key FROM placed GROUP BY place ORDER BY place",
        salt,
    )
    return [dict(row) for row in rows]


async def look_up_one_by_one(conn: Connection) -> None:
    """From here on records are looked up by their keys: to join a segment by reading all karma would cost all karma each time."""
    await conn.execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")


_CONTENT = f"""
    {MESSAGES}::text AS messages, {TOOLS}::text AS tools, {CHECKS}::text AS checks,
    coalesce({MESSAGES} -> 0 ->> 'role' = 'system' AND {MESSAGES} -> 0 ->> 'content' <> '', false) AS has_prompt
"""


async def segment_records(conn: Connection, place: int) -> Cursor[Any]:
    """The records of a placed segment in order; those that are used with their content, JSON as text."""
    return await conn.cursor(
        "SELECT p.karma, p.session, p.side, p.reason, p.source, p.kind, p.feedback, p.parent, p.tokens, p.redacted, "
        f"p.rejected IS NOT NULL AS rejected, r.found, {_CONTENT} FROM placed p "
        f"LEFT JOIN vectors.karma k ON k.id = p.karma AND p.reason IS NULL {GOLDEN} "
        "LEFT JOIN reading r ON r.karma = p.karma AND p.redacted "
        "WHERE p.place = $1 ORDER BY p.created_at, p.karma",
        place,
    )


async def contents(conn: Connection, ids: list[str]) -> dict[str, dict[str, Any]]:
    """What may be written of these records; JSON as text."""
    if not ids:
        return {}
    rows = await conn.fetch(
        f"SELECT k.id, r.redacted, {_CONTENT} FROM vectors.karma k JOIN reading r ON r.karma = k.id {GOLDEN} "
        "WHERE k.id = ANY ($1::text[])",
        ids,
    )
    return {row["id"]: dict(row) for row in rows}


async def concentration(conn: Connection) -> dict[str, dict[str, int]]:
    """The sessions and sources that most training rows come from."""
    return {
        column: {
            row["name"]: row["records"]
            for row in await conn.fetch(
                f"SELECT {column} AS name, count(*) AS records FROM placed WHERE reason IS NULL AND side = 'train' "
                "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5"
            )
        }
        for column in ("session", "source")
    }


async def quarantined(conn: Connection) -> dict[str, int]:
    """How often each class of secret or personal data was found in what is held back for it."""
    rows = await conn.fetch(
        "SELECT found.key AS kind, sum(found.value::int) AS times FROM placed p JOIN reading r USING (karma) "
        "CROSS JOIN LATERAL jsonb_each_text(r.found) AS found WHERE p.reason IN ('secret', 'personal') GROUP BY 1 ORDER BY 1"
    )
    return {row["kind"]: row["times"] for row in rows}


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


async def keep_segment(conn: Connection, persona: str, segment: Segment, first_at: datetime, last_at: datetime) -> None:
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


async def seal(conn: Connection, persona: str) -> None:
    """What was placed in the holdout stays out of every later training; needs the table `placed`."""
    await conn.execute(
        "INSERT INTO sealed (persona, karma) SELECT $1, p.karma FROM placed p "
        "WHERE p.reason IS NULL AND p.side = 'holdout' "
        "AND NOT EXISTS (SELECT FROM sealed s WHERE s.persona = $1 AND s.karma = p.karma) ON CONFLICT DO NOTHING",
        persona,
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
