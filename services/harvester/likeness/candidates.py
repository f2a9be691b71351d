"""Candidate pairs: records that share a MinHash band, found set-based in temporary tables of one connection.

`likeness_row` holds the records that matter, numbered: compared ones first, then by time. `likeness_pair` holds the
pairs. In one band's bucket a new record meets the FIRST texts and the LAST texts before it, not everyone: a bucket of
n records of boilerplate gives at most (FIRST + LAST) n pairs instead of n²/2, and still hangs together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.harvester.likeness.minhash import BANDS

if TYPE_CHECKING:
    from shared.storage.postgres import Connection

FIRST = 3
LAST = 2
STATEMENT_S = 600  # a pass over millions of records; the pool's own 30 s are for handlers
FEW = 0.1  # share of new records below which the others are first narrowed down to those that share a band
TABLES = "likeness_row, likeness_found, likeness_pair"


@dataclass(frozen=True)
class Pair:
    """Two records that may be alike; `karma` is the later one by time and id."""

    number: int
    karma: str
    other: str


_ROWS = """
    CREATE TEMPORARY TABLE likeness_row AS
    SELECT row_number() OVER (ORDER BY compared DESC, created_at, karma)::int AS place,
           row_number() OVER (PARTITION BY text ORDER BY compared DESC, created_at, karma) = 1 AS first_of_text,
           NOT compared AS fresh, karma, parent, created_at, touched, text, bands
    FROM reading WHERE persona = $1 AND reason IS NULL {narrowed}
"""
# Joins throughout: `OR karma IN (…)` would run the inner query once a record as soon as its result outgrows work_mem.
_SHARES_A_BAND = """
    AND karma IN (
        SELECT karma FROM reading WHERE persona = $1 AND reason IS NULL AND NOT compared
        UNION
        SELECT karma
        FROM (SELECT karma, unnest(bands) AS band FROM reading WHERE persona = $1 AND reason IS NULL AND compared) AS old
        JOIN (SELECT DISTINCT unnest(bands) AS band FROM reading WHERE persona = $1 AND reason IS NULL AND NOT compared) AS new
        USING (band))
"""
_FOUND = "CREATE TEMPORARY TABLE likeness_found (place int NOT NULL, other int NOT NULL)"
# One band's buckets: those that hold a new record and another text. Rank counts the texts of a bucket.
_BUCKETS = """
    WITH member AS (
        SELECT bands[$1] AS band, place, fresh, first_of_text, text FROM likeness_row WHERE bands[$1] IS NOT NULL
    ), shared AS (
        SELECT band FROM member GROUP BY band HAVING count(*) FILTER (WHERE first_of_text) > 1 AND bool_or(fresh)
    ), ranked AS (
        SELECT band, place, fresh, text, first_of_text,
               count(*) FILTER (WHERE first_of_text) OVER (PARTITION BY band ORDER BY place) AS rank
        FROM member JOIN shared USING (band)
    ), met AS (
        SELECT DISTINCT band, place, text, met.rank
        FROM ranked CROSS JOIN LATERAL (
            SELECT generate_series(1, {first}) UNION SELECT generate_series(rank - {last}, rank - 1)) AS met (rank)
        WHERE fresh AND met.rank BETWEEN 1 AND ranked.rank
    )
    INSERT INTO likeness_found
    SELECT met.place, other.place
    FROM met JOIN ranked AS other ON other.band = met.band AND other.rank = met.rank AND other.first_of_text
    WHERE other.text <> met.text
    EXCEPT SELECT place, other FROM likeness_found
"""
# A correction nearly repeats what it corrects; that is its nature.
_PAIRS = """
    CREATE TEMPORARY TABLE likeness_pair AS
    SELECT row_number() OVER (ORDER BY found.place, found.other) AS number,
           CASE WHEN (a.created_at, a.karma) > (b.created_at, b.karma) THEN a.karma ELSE b.karma END AS karma,
           CASE WHEN (a.created_at, a.karma) > (b.created_at, b.karma) THEN b.karma ELSE a.karma END AS other
    FROM likeness_found AS found
    JOIN likeness_row AS a ON a.place = found.place
    JOIN likeness_row AS b ON b.place = found.other
    WHERE a.parent IS DISTINCT FROM b.karma AND b.parent IS DISTINCT FROM a.karma
"""
_PAGE = "SELECT number, karma, other FROM likeness_pair WHERE number > $1 ORDER BY number LIMIT $2"
# What was said of a record before it was read anew. Two statements: an OR of two sets is no join.
_FORGET = """
    DELETE FROM near_duplicate WHERE persona = $1 AND {column} IN (SELECT karma FROM likeness_row WHERE fresh)
"""
# A record that was read anew meanwhile is to be compared anew; one that is compared anew is weighed anew.
_COMPARED = """
    UPDATE reading SET compared = true, weighed = false FROM likeness_row AS done
    WHERE reading.karma = done.karma AND reading.touched = done.touched AND done.fresh AND NOT reading.compared
"""


async def gather(conn: Connection, persona: str) -> int:
    """Find the pairs that are worth verifying; how many new records there are."""
    await drop(conn)
    fresh, known = await conn.fetchrow(
        "SELECT count(*) FILTER (WHERE NOT compared), count(*) FILTER (WHERE compared) "
        "FROM reading WHERE persona = $1 AND reason IS NULL",
        persona,
    ) or (0, 0)
    if not fresh:
        return 0
    narrowed = _SHARES_A_BAND if fresh < FEW * (fresh + known) else ""
    await run(conn, _ROWS.format(narrowed=narrowed), persona)
    # Nobody but us gathers statistics of a temporary table, and without them the joins below go by nested loops.
    await run(conn, "ANALYZE likeness_row (place, karma, fresh, first_of_text)")
    await run(conn, _FOUND)
    for band in range(1, BANDS + 1):
        await run(conn, _BUCKETS.format(first=FIRST, last=LAST), band)
    await run(conn, "ANALYZE likeness_found")
    await run(conn, _PAIRS)
    await run(conn, "CREATE INDEX ON pg_temp.likeness_pair (number)")
    return int(fresh)


async def page(conn: Connection, after: int, limit: int) -> list[Pair]:
    """The pairs numbered above `after`, in order: a record's pairs stand together."""
    return [Pair(*row) for row in await conn.fetch(_PAGE, after, limit)]


async def forget(conn: Connection, persona: str) -> None:
    """Drop the pairs of the new records: those of an earlier reading, or of a run that was cut short."""
    for column in ("karma", "other"):
        await run(conn, _FORGET.format(column=column), persona)


async def mark_compared(conn: Connection) -> None:
    await run(conn, _COMPARED)


async def drop(conn: Connection) -> None:
    if not conn.is_closed():
        await conn.execute(f"DROP TABLE IF EXISTS {', '.join(f'pg_temp.{table}' for table in TABLES.split(', '))}")


async def run(conn: Connection, sql: str, *values: object) -> None:
    async with conn.transaction():
        await conn.execute(f"SET LOCAL statement_timeout = '{STATEMENT_S}s'")
        await conn.execute("SET LOCAL work_mem = '64MB'")
        await conn.execute(sql, *values, timeout=STATEMENT_S)
