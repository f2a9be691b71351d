"""Find the texts that nearly repeat one another, into the temporary table `near_text` of one harvest's connection.

By words: pairs that share a MinHash band, each verified by its exact Jaccard similarity. By meaning: of each embedded
record the nearest others by cosine. A pair speaks for all records of its two texts; records of equal text are no pair.
In one band's bucket a record meets the FIRST texts and the LAST texts before it, not every one: a bucket of n records of
boilerplate gives at most (FIRST + LAST) n pairs instead of n²/2, and still hangs together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.harvester.embedding.model import DIMS, MODEL
from services.harvester.golden_paths.join import GOLDEN, MESSAGES
from services.harvester.scan.minhash import BANDS, jaccard, shingles
from services.harvester.scan.normalise import words_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from services.harvester.policy import LikenessPolicy
    from shared.storage.postgres import Connection

    OnProgress = Callable[[int, int], None]

FIRST = 3
LAST = 2
PAGE = 200  # pairs whose words are in memory at a time
SEARCHES = 100  # nearest-neighbour searches in one statement
NEAREST = 16  # others that a record is compared with; more copies than that hide what comes after them

CREATE_RECORD = """
    CREATE TEMP TABLE dedup_record AS
    SELECT row_number() OVER (ORDER BY created_at, karma)::int AS place,
        row_number() OVER (PARTITION BY text ORDER BY created_at, karma) = 1 AS first_of_text,
        karma, parent, text, bands
    FROM scanned WHERE reason IS NULL
"""
# The buckets of one band that hold more than one text. Rank counts the texts of a bucket.
ADD_CANDIDATES = f"""
    WITH member AS (
        SELECT bands[$1] AS band, place, first_of_text, text FROM dedup_record WHERE bands[$1] IS NOT NULL
    ), shared AS (
        SELECT band FROM member GROUP BY band HAVING count(*) FILTER (WHERE first_of_text) > 1
    ), ranked AS (
        SELECT band, place, text, first_of_text,
            count(*) FILTER (WHERE first_of_text) OVER (PARTITION BY band ORDER BY place) AS rank
        FROM member JOIN shared USING (band)
    ), neighbour AS (
        SELECT DISTINCT band, place, text, near.rank
        FROM ranked CROSS JOIN LATERAL (
            SELECT generate_series(1, {FIRST}) UNION SELECT generate_series(rank - {LAST}, rank - 1)) AS near (rank)
        WHERE near.rank BETWEEN 1 AND ranked.rank
    )
    INSERT INTO dedup_candidate
    SELECT neighbour.place, other.place
    FROM neighbour JOIN ranked AS other ON other.band = neighbour.band AND other.rank = neighbour.rank AND other.first_of_text
    WHERE other.text <> neighbour.text
    EXCEPT SELECT one, other FROM dedup_candidate
"""
# A correction nearly repeats what it corrects; that is its nature.
ORDER_CANDIDATES = """
    CREATE TEMP TABLE dedup_pair AS
    SELECT a.karma AS one, b.karma AS other, a.text AS one_text, b.text AS other_text, found.one AS place
    FROM dedup_candidate AS found
    JOIN dedup_record AS a ON a.place = found.one
    JOIN dedup_record AS b ON b.place = found.other
    WHERE a.parent IS DISTINCT FROM b.karma AND b.parent IS DISTINCT FROM a.karma
"""
EMBEDDED = f"""
    FROM scanned s JOIN vectors.karma k ON k.id = s.karma WHERE s.reason IS NULL AND k.embedding_model = '{MODEL}'
"""
# A distance bound inside the search would make it go on past the last row that is like enough.
INSERT_NEAR_MEANINGS = f"""
    INSERT INTO near_text (one, other)
    SELECT a.text, b.text
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
    AND b.reason IS NULL AND b.text <> a.text
    AND a.parent IS DISTINCT FROM b.karma AND b.parent IS DISTINCT FROM a.karma
"""


@dataclass(frozen=True)
class Pair:
    """Two records whose words may be alike, each with the digest of its text."""

    one: str
    other: str
    one_text: bytes
    other_text: bytes


async def find_near_duplicates(conn: Connection, persona: str, policy: LikenessPolicy, on_progress: OnProgress) -> None:
    """Compare all scanned records that their content does not keep out, in the caller's transaction."""
    await create_near_text(conn)
    if policy.by_words:
        await _compare_words(conn, policy.jaccard, on_progress)
    if policy.by_meaning:
        await _compare_meanings(conn, persona, policy.cosine, on_progress)


async def _compare_words(conn: Connection, least: float, on_progress: OnProgress) -> None:
    await create_candidates(conn)
    for band in range(1, BANDS + 1):
        await add_candidates(conn, band)
        on_progress(band, BANDS)
    total = await order_candidates(conn)
    done = 0
    async for pairs in list_candidates(conn):
        words = await get_words(conn, {karma for pair in pairs for karma in (pair.one, pair.other)})
        shingled = {karma: frozenset(shingles(some)) for karma, some in words.items()}
        near = [pair for pair in pairs if jaccard(shingled[pair.one], shingled[pair.other]) >= least]
        await insert_near(conn, near)
        done += len(pairs)
        on_progress(done, total)


async def _compare_meanings(conn: Connection, persona: str, least: float, on_progress: OnProgress) -> None:
    total = await count_embedded(conn)
    done = 0
    async for ids in list_embedded(conn):
        await insert_near_meanings(conn, persona, ids, least)
        done += len(ids)
        on_progress(done, total)


async def create_near_text(conn: Connection) -> None:
    await conn.execute("CREATE TEMP TABLE near_text (one bytea NOT NULL, other bytea NOT NULL)")


async def create_candidates(conn: Connection) -> None:
    await conn.execute(CREATE_RECORD)
    await conn.execute("ANALYZE dedup_record (place, karma, first_of_text)")
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
    cursor = await conn.cursor("SELECT one, other, one_text, other_text FROM dedup_pair ORDER BY place")
    while page := await cursor.fetch(PAGE):
        yield [Pair(*row) for row in page]


async def get_words(conn: Connection, karma: Iterable[str]) -> dict[str, list[str]]:
    """id -> the words of the record."""
    rows = await conn.fetch(
        f"SELECT k.id, {MESSAGES} AS messages FROM vectors.karma k {GOLDEN} WHERE k.id = ANY ($1::text[])", list(karma)
    )
    return {row["id"]: words_of(row["messages"]) for row in rows}


async def insert_near(conn: Connection, pairs: Iterable[Pair]) -> None:
    await conn.copy_records_to_table(
        "near_text", records=[(pair.one_text, pair.other_text) for pair in pairs], columns=("one", "other")
    )


async def count_embedded(conn: Connection) -> int:
    return int(await conn.fetchval(f"SELECT count(*) {EMBEDDED}"))


async def list_embedded(conn: Connection) -> AsyncIterator[list[str]]:
    """The ids of all records that can be compared by meaning, in batches."""
    cursor = await conn.cursor(f"SELECT s.karma {EMBEDDED}")
    while rows := await cursor.fetch(SEARCHES):
        yield [row["karma"] for row in rows]


async def insert_near_meanings(conn: Connection, persona: str, karma: list[str], least: float) -> None:
    """Pair each of these records with the nearest others whose cosine is at least `least`."""
    await conn.execute("SET LOCAL hnsw.iterative_scan = strict_order")
    await conn.execute(INSERT_NEAR_MEANINGS, persona, karma, least)
