"""Find lessons that nearly repeat or that contradict one another, into the temporary tables `near_lesson`, `contradicting`.

Candidates are, by words, pairs that share a MinHash band or the prompt, and by meaning the nearest others of each embedded
record by cosine. Each is verified on the texts. A pair speaks for all records of its two lessons; equal lessons are no pair.
In one band's bucket a record meets the FIRST lessons and the LAST lessons before it, not every one: a bucket of n records of
boilerplate gives at most (FIRST + LAST) n pairs instead of n²/2, and still hangs together.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.harvester.embedding.model import DIMS, MODEL
from services.harvester.golden_paths.join import GOLDEN, MESSAGES
from services.harvester.scan.compare import Likeness, compare
from services.harvester.scan.lesson import BANDS_OF_LESSON, Lesson, read_lesson

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from services.harvester.policy import LikenessPolicy
    from shared.storage.postgres import Connection

    OnProgress = Callable[[int, int], None]

FIRST = 3
LAST = 2
PAGE = 200  # pairs whose lessons are in memory at a time
SEARCHES = 100  # nearest-neighbour searches in one statement
NEAREST = 16  # others that a record is compared with; more copies than that hide what comes after them

TABLES = {"near_lesson": Likeness.NEAR, "contradicting": Likeness.CONTRADICTING}
CREATE_RECORD = """
    CREATE TEMP TABLE dedup_record AS
    SELECT row_number() OVER (ORDER BY created_at, karma)::int AS place,
        row_number() OVER (PARTITION BY lesson ORDER BY created_at, karma) = 1 AS first_of_lesson,
        karma, parent, lesson, feedback IS NOT DISTINCT FROM 'down' AS down, bands
    FROM scanned WHERE reason IS NULL
"""
# The buckets of one band that hold more than one lesson. Rank counts the lessons of a bucket.
ADD_CANDIDATES = f"""
    WITH member AS (
        SELECT bands[$1] AS band, place, first_of_lesson, lesson FROM dedup_record WHERE bands[$1] IS NOT NULL
    ), shared AS (
        SELECT band FROM member GROUP BY band HAVING count(*) FILTER (WHERE first_of_lesson) > 1
    ), ranked AS (
        SELECT band, place, lesson, first_of_lesson,
            count(*) FILTER (WHERE first_of_lesson) OVER (PARTITION BY band ORDER BY place) AS rank
        FROM member JOIN shared USING (band)
    ), neighbour AS (
        SELECT DISTINCT band, place, lesson, near.rank
        FROM ranked CROSS JOIN LATERAL (
            SELECT generate_series(1, {FIRST}) UNION SELECT generate_series(rank - {LAST}, rank - 1)) AS near (rank)
        WHERE near.rank BETWEEN 1 AND ranked.rank
    )
    INSERT INTO dedup_candidate
    SELECT neighbour.place, other.place
    FROM neighbour JOIN ranked AS other ON other.band = neighbour.band AND other.rank = neighbour.rank AND other.first_of_lesson
    WHERE other.lesson <> neighbour.lesson
    EXCEPT SELECT one, other FROM dedup_candidate
"""
# A correction nearly repeats what it corrects; that is its nature.
ORDER_CANDIDATES = """
    CREATE TEMP TABLE dedup_pair AS
    SELECT a.karma AS one, b.karma AS other, a.lesson AS one_lesson, b.lesson AS other_lesson, a.down AS one_down,
        b.down AS other_down, found.one AS place
    FROM dedup_candidate AS found
    JOIN dedup_record AS a ON a.place = found.one
    JOIN dedup_record AS b ON b.place = found.other
    WHERE a.parent IS DISTINCT FROM b.karma AND b.parent IS DISTINCT FROM a.karma
"""
EMBEDDED = f"""
    FROM scanned s JOIN vectors.karma k ON k.id = s.karma WHERE s.reason IS NULL AND k.embedding_model = '{MODEL}'
"""
# A distance bound inside the search would make it go on past the last row that is like enough.
LIST_LIKE_MEANINGS = f"""
    SELECT a.karma, b.karma, a.lesson, b.lesson, a.feedback IS NOT DISTINCT FROM 'down', b.feedback IS NOT DISTINCT FROM 'down'
    FROM scanned a
    JOIN vectors.karma k ON k.id = a.karma
    CROSS JOIN LATERAL (
        SELECT n.id, 1 - (n.embedding::vector({DIMS}) <=> k.embedding::vector({DIMS})) AS cosine
        FROM vectors.karma n
        WHERE n.embedding_model = '{MODEL}' AND n.persona = $1
        ORDER BY n.embedding::vector({DIMS}) <=> k.embedding::vector({DIMS}) LIMIT {NEAREST}
    ) AS found
    JOIN scanned b ON b.karma = found.id
    WHERE a.karma = ANY ($2::text[]) AND k.embedding_model = '{MODEL}' AND found.cosine >= $3
    AND b.reason IS NULL AND b.lesson <> a.lesson
    AND a.parent IS DISTINCT FROM b.karma AND b.parent IS DISTINCT FROM a.karma
"""


@dataclass(frozen=True)
class Pair:
    """Two records that may be alike, each with its lesson and whether it has a thumb down."""

    one: str
    other: str
    one_lesson: bytes
    other_lesson: bytes
    one_down: bool
    other_down: bool


async def find_near_duplicates(conn: Connection, persona: str, policy: LikenessPolicy, on_progress: OnProgress) -> None:
    """Compare all scanned records that their content does not keep out, in the caller's transaction."""
    await create_tables(conn)
    if policy.by_words:
        await _compare_words(conn, policy.jaccard, on_progress)
    if policy.by_meaning:
        await _compare_meanings(conn, persona, policy, on_progress)


async def _compare_words(conn: Connection, least: float, on_progress: OnProgress) -> None:
    await create_candidates(conn)
    for band in range(1, BANDS_OF_LESSON + 1):
        await add_candidates(conn, band)
        on_progress(band, BANDS_OF_LESSON)
    total = await order_candidates(conn)
    done = 0
    async for pairs in list_candidates(conn):
        await _verify(conn, pairs, least, like_meaning=False)
        done += len(pairs)
        on_progress(done, total)


async def _compare_meanings(conn: Connection, persona: str, policy: LikenessPolicy, on_progress: OnProgress) -> None:
    total = await count_embedded(conn)
    done = 0
    async for ids in list_embedded(conn):
        pairs = await list_like_meanings(conn, persona, ids, policy.cosine)
        await _verify(conn, pairs, policy.jaccard, like_meaning=True)
        done += len(ids)
        on_progress(done, total)


async def _verify(conn: Connection, pairs: list[Pair], least: float, *, like_meaning: bool) -> None:
    lessons = await get_lessons(conn, {karma for pair in pairs for karma in (pair.one, pair.other)})
    found = await asyncio.to_thread(
        lambda: [
            _judge(pair, compare(lessons[pair.one], lessons[pair.other], least, like_meaning=like_meaning))
            for pair in pairs
        ]
    )
    for table, likeness in TABLES.items():
        await insert_pairs(conn, table, [pair for pair, one in zip(pairs, found, strict=True) if one is likeness])


def _judge(pair: Pair, likeness: Likeness) -> Likeness:
    """Contradicting are also one lesson with and without a thumb down; what has one contradicts nothing else."""
    if likeness is Likeness.NEAR and pair.one_down != pair.other_down:
        return Likeness.CONTRADICTING
    if likeness is Likeness.CONTRADICTING and (pair.one_down or pair.other_down):
        return Likeness.APART
    return likeness


async def create_tables(conn: Connection) -> None:
    for table in TABLES:
        await conn.execute(f"CREATE TEMP TABLE {table} (one bytea NOT NULL, other bytea NOT NULL)")


async def create_candidates(conn: Connection) -> None:
    await conn.execute(CREATE_RECORD)
    await conn.execute("ANALYZE dedup_record (place, karma, first_of_lesson)")
    await conn.execute("CREATE TEMP TABLE dedup_candidate (one int NOT NULL, other int NOT NULL)")


async def add_candidates(conn: Connection, band: int) -> None:
    """Pair the records that share this MinHash band (the first is 1)."""
    await conn.execute(ADD_CANDIDATES, band)


async def order_candidates(conn: Connection) -> int:
    """Put the candidate pairs into the order in which they are read; how many there are."""
    await conn.execute("ANALYZE dedup_candidate")
    await conn.execute(ORDER_CANDIDATES)
    return int(await conn.fetchval("SELECT count(*) FROM dedup_pair"))


async def list_candidates(conn: Connection) -> AsyncIterator[list[Pair]]:
    """The candidate pairs in pages; a record's pairs are next to each other."""
    cursor = await conn.cursor(
        "SELECT one, other, one_lesson, other_lesson, one_down, other_down FROM dedup_pair ORDER BY place"
    )
    while page := await cursor.fetch(PAGE):
        yield [Pair(*row) for row in page]


async def get_lessons(conn: Connection, karma: Iterable[str]) -> dict[str, Lesson]:
    """id -> the lesson of the record."""
    rows = await conn.fetch(
        f"SELECT k.id, {MESSAGES} AS messages FROM vectors.karma k {GOLDEN} WHERE k.id = ANY ($1::text[])", list(karma)
    )
    return {row["id"]: read_lesson(row["messages"]) for row in rows}


async def insert_pairs(conn: Connection, table: str, pairs: Iterable[Pair]) -> None:
    await conn.copy_records_to_table(
        table, records=[(pair.one_lesson, pair.other_lesson) for pair in pairs], columns=("one", "other")
    )


async def count_embedded(conn: Connection) -> int:
    return int(await conn.fetchval(f"SELECT count(*) {EMBEDDED}"))


async def list_embedded(conn: Connection) -> AsyncIterator[list[str]]:
    """The ids of all records that can be compared by meaning, in batches."""
    cursor = await conn.cursor(f"SELECT s.karma {EMBEDDED}")
    while rows := await cursor.fetch(SEARCHES):
        yield [row["karma"] for row in rows]


async def list_like_meanings(conn: Connection, persona: str, karma: list[str], least: float) -> list[Pair]:
    """Each of these records with those of the nearest others whose cosine is at least `least`."""
    await conn.execute("SET LOCAL hnsw.iterative_scan = strict_order")
    return [Pair(*row) for row in await conn.fetch(LIST_LIKE_MEANINGS, persona, karma, least)]
