"""Near duplicates by meaning: of each embedded record the nearest others, through the HNSW index of its model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.harvester.embedding.model import DIMS, MODEL
from services.harvester.likeness.candidates import run

if TYPE_CHECKING:
    from services.harvester.likeness.policy import LikenessPolicy
    from shared.storage.postgres import Connection

BATCH = 100  # searches in one statement
NEAREST = 16  # others that a record is compared with; more copies than that hide what lies behind them

_FRESH = f"""
    CREATE TEMPORARY TABLE likeness_weighed AS
    SELECT row_number() OVER (ORDER BY r.created_at, r.karma) AS number, r.karma, r.touched
    FROM reading r JOIN vectors.karma k ON k.id = r.karma
    WHERE r.persona = $1 AND r.reason IS NULL AND NOT r.weighed AND k.embedding_model = '{MODEL}'
"""
_BATCH = "SELECT karma FROM likeness_weighed WHERE number > $1 AND number <= $2"
# A distance bound inside the search would make it go on past the last row that is like enough.
_KEEP = f"""
    INSERT INTO near_duplicate (karma, other, persona, likeness, measure)
    SELECT greatest.karma, least.karma, $1, max(found.likeness), 'cosine'
    FROM reading a
    JOIN vectors.karma k ON k.id = a.karma
    CROSS JOIN LATERAL (
        SELECT n.id, 1 - (n.embedding::vector({DIMS}) <=> k.embedding::vector({DIMS})) AS likeness
        FROM vectors.karma n
        WHERE n.embedding_model = '{MODEL}' AND n.persona = $1
        ORDER BY n.embedding::vector({DIMS}) <=> k.embedding::vector({DIMS}) LIMIT {NEAREST}
    ) AS found
    JOIN reading b ON b.karma = found.id
    CROSS JOIN LATERAL (SELECT (a.created_at, a.karma) > (b.created_at, b.karma) AS a_later) AS time
    CROSS JOIN LATERAL (SELECT CASE WHEN a_later THEN a.karma ELSE b.karma END AS karma) AS greatest
    CROSS JOIN LATERAL (SELECT CASE WHEN a_later THEN b.karma ELSE a.karma END AS karma) AS least
    WHERE a.karma = ANY($2) AND k.embedding_model = '{MODEL}' AND found.likeness >= $3
    AND b.reason IS NULL AND b.text <> a.text
    AND a.parent IS DISTINCT FROM b.karma AND b.parent IS DISTINCT FROM a.karma
    GROUP BY 1, 2
    ON CONFLICT DO NOTHING
"""
_WEIGHED = """
    UPDATE reading SET weighed = true FROM likeness_weighed AS done
    WHERE reading.karma = done.karma AND reading.touched = done.touched AND done.number > $1 AND done.number <= $2
"""
_DROP = "DROP TABLE IF EXISTS pg_temp.likeness_weighed"


async def compare(conn: Connection, persona: str, policy: LikenessPolicy) -> int:
    """Compare every embedded record that was not yet; how many there were."""
    if not policy.by_meaning:
        return 0
    await conn.execute(_DROP)
    try:
        await run(conn, _FRESH, persona)
        await run(conn, "CREATE UNIQUE INDEX ON pg_temp.likeness_weighed (number)")
        fresh = int(await conn.fetchval("SELECT count(*) FROM likeness_weighed"))
        for start in range(0, fresh, BATCH):
            await _batch(conn, persona, policy.cosine, start, start + BATCH)
    finally:
        if not conn.is_closed():
            await conn.execute(_DROP)
    return fresh


async def _batch(conn: Connection, persona: str, least: float, start: int, end: int) -> None:
    ids = [row["karma"] for row in await conn.fetch(_BATCH, start, end)]
    async with conn.transaction():
        await conn.execute("SET LOCAL hnsw.iterative_scan = strict_order")
        await conn.execute(_KEEP, persona, ids, least)
        await conn.execute(_WEIGHED, start, end)
