"""Near duplicates on a real PostgreSQL: found by words and by meaning, once for each two texts, and never by the square."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product
from typing import Any

from services.harvester import dedup
from services.harvester.embedding.model import DIMS, MODEL
from services.harvester.policy import LikenessPolicy
from services.harvester.scan.lesson import BANDS_OF_LESSON, read_lesson
from services.harvester.scan.scanner import RecordScanner
from services.harvester.scan_karma import scan_karma
from shared.redaction.policy import RedactionPolicy
from shared.storage.postgres import Connection, Pool
from tests.support.harvests import SUITES

START = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = LikenessPolicy()
VOCABULARY = ["".join(letters) for letters in product("bdfgklmnprstvz", "aeiou", "bdfgklmnprstvz", "aeiou")]


@cache
def scanner() -> RecordScanner:
    """To make one takes longer than all else here."""
    return RecordScanner(RedactionPolicy(), SUITES)


def talk(seed: int, length: int = 60) -> str:
    return " ".join(random.Random(seed).choices(VOCABULARY, k=length))


def nearly(text: str, seed: int = 0) -> str:
    """The same text with its last word changed: Jaccard about 0.97."""
    return " ".join([*text.split()[:-1], f"other{VOCABULARY[seed]}"])


def conversation(text: str, question: str = "Say it.") -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": text}]


async def remember(pool: Pool, id: str, text: str, minute: int = 0, **values: Any) -> None:
    persona, vector = values.pop("persona", "scribe"), values.pop("vector", None)
    model = values.pop("model", MODEL if vector else None)
    await pool.execute(
        "INSERT INTO vectors.karma (id, persona, messages, session, parent, created_at, embedding, embedding_model) "
        "VALUES ($1, $2, $3, 's', $4, $5, $6::real[]::vector, $7) ON CONFLICT (id) DO UPDATE SET messages = excluded.messages",
        id,
        persona,
        conversation(text, values.pop("question", "Say it.")),
        values.pop("parent", None),
        START + timedelta(minutes=minute),
        vector,
        model,
    )


async def scanned(conn: Connection, changes: str = "") -> None:
    """Scan the scribe's karma in the transaction of `conn`; `changes` is SQL upon what was scanned."""
    await scan_karma(conn, "scribe", "train", scanner(), lambda *_: None)
    if changes:
        await conn.execute(changes)


async def pairs(pool: Pool, policy: LikenessPolicy = POLICY, changes: str = "") -> set[tuple[str, str]]:
    """The pairs of ids that are found, each with the later id first."""
    async with pool.acquire() as conn:
        await conn.execute("DISCARD TEMP")
        async with conn.transaction():
            await scanned(conn, changes)
            await dedup.find_near_duplicates(conn, "scribe", policy, lambda *_: None)
            rows = await conn.fetch(
                "SELECT a.karma AS one, b.karma AS other FROM near_lesson n JOIN scanned a ON a.lesson = n.one "
                "JOIN scanned b ON b.lesson = n.other WHERE a.reason IS NULL AND b.reason IS NULL"
            )
    return {(max(*row), min(*row)) for row in rows}


def vector(seed: int, turned: float = 0.0) -> list[float]:
    """A vector of length 1; `turned` mixes another direction in."""
    a, b = random.Random(seed), random.Random(seed + 10_000)
    mixed = [a.gauss(0, 1) + turned * b.gauss(0, 1) for _ in range(DIMS)]
    length = sum(value * value for value in mixed) ** 0.5
    return [value / length for value in mixed]


async def test_near_duplicates_are_found(pool: Pool) -> None:
    await remember(pool, "a", talk(1))
    await remember(pool, "b", nearly(talk(1)), minute=1)
    await remember(pool, "c", talk(2), minute=2)
    assert await pairs(pool) == {("b", "a")}

    await remember(pool, "d", nearly(talk(2)), minute=3)
    assert await pairs(pool) == {("b", "a"), ("d", "c")}


async def test_equal_texts_corrections_refused_records_and_other_personas_are_no_pairs(pool: Pool) -> None:
    await remember(pool, "a", talk(1))
    await remember(pool, "copy", talk(1), minute=1)
    await remember(pool, "refused", nearly(talk(1), 2), minute=2)
    await remember(pool, "correction", nearly(talk(1), 3), minute=3, parent="a")
    await remember(pool, "elsewhere", nearly(talk(1), 4), minute=4, persona="coder")

    assert await pairs(pool, changes="UPDATE scanned SET reason = 'secret' WHERE karma = 'refused'") == set()


async def test_a_shared_band_is_no_proof(pool: Pool) -> None:
    await remember(pool, "a", talk(1))
    await remember(pool, "b", talk(2), minute=1)
    same_bands = "UPDATE scanned SET bands = (SELECT bands FROM scanned WHERE karma = 'a')"

    assert await pairs(pool, changes=same_bands) == set()


async def test_the_threshold_is_the_policys(pool: Pool) -> None:
    await remember(pool, "a", talk(1))
    await remember(pool, "b", nearly(talk(1)), minute=1)

    assert await pairs(pool, LikenessPolicy(jaccard=0.99)) == set()
    assert await pairs(pool, LikenessPolicy(jaccard=0.9)) == {("b", "a")}


async def test_a_record_with_other_words_is_compared_by_those(pool: Pool) -> None:
    await remember(pool, "a", talk(1))
    await remember(pool, "b", talk(2), minute=1)
    assert await pairs(pool) == set()

    await remember(pool, "b", nearly(talk(1)), minute=1)
    assert await pairs(pool) == {("b", "a")}


async def test_boilerplate_hangs_together_without_a_pair_for_every_two(pool: Pool) -> None:
    count = 300
    text = talk(1, length=120)
    for number in range(count):
        await remember(pool, f"k{number:04}", nearly(text, number), minute=number)
    async with pool.acquire() as conn, conn.transaction():
        await scanned(conn)
        await dedup.create_candidates(conn)
        for band in range(1, BANDS_OF_LESSON + 1):
            await dedup.add_candidates(conn, band)
        offered = await dedup.order_candidates(conn)
    assert offered < count * 40 < count * (count - 1) / 2

    assert {later for later, _ in await pairs(pool)} == {f"k{number:04}" for number in range(1, count)}


async def test_every_planted_near_duplicate_is_found(pool: Pool) -> None:
    for number in range(120):
        await remember(pool, f"a{number:03}", talk(number), minute=number)
        await remember(pool, f"b{number:03}", nearly(talk(number)), minute=1000 + number)

    assert await pairs(pool) == {(f"b{number:03}", f"a{number:03}") for number in range(120)}


async def test_questions_of_like_meaning_are_found_once_they_have_an_embedding(pool: Pool) -> None:
    await remember(pool, "a", talk(1), question=talk(11, 8), vector=vector(1))
    await remember(pool, "b", talk(1), question=talk(12, 8), minute=1)
    await remember(pool, "c", talk(1), question=talk(13, 8), minute=2, vector=vector(3))
    assert await pairs(pool) == set()

    await pool.execute(
        "UPDATE vectors.karma SET embedding = $1::real[]::vector, embedding_model = $2 WHERE id = 'b'",
        vector(1, turned=0.1),
        MODEL,
    )
    assert await pairs(pool) == {("b", "a")}


async def test_like_meaning_alone_makes_no_duplicate(pool: Pool) -> None:
    await remember(pool, "a", talk(1), question=talk(11, 8), vector=vector(1))
    await remember(pool, "b", talk(2), question=talk(12, 8), minute=1, vector=vector(1))
    await remember(pool, "c", talk(1), question=f"{talk(12, 8)} 5", minute=2, vector=vector(1))

    assert await pairs(pool) == set()


async def test_meaning_is_never_compared_across_models_or_personas(pool: Pool) -> None:
    await remember(pool, "a", talk(1), question=talk(11, 8), vector=vector(1), model="another-model")
    await remember(pool, "b", talk(1), question=talk(12, 8), minute=1, vector=vector(1))
    await remember(pool, "c", talk(1), question=talk(13, 8), minute=1, vector=vector(1), persona="coder")

    assert await pairs(pool) == set()


async def test_meaning_has_its_own_threshold_and_switch(pool: Pool) -> None:
    await remember(pool, "a", talk(1), question=talk(11, 8), vector=vector(1))
    await remember(pool, "b", talk(1), question=talk(12, 8), minute=1, vector=vector(1, turned=0.5))  # cosine about 0.9

    assert await pairs(pool) == set()
    assert await pairs(pool, LikenessPolicy(cosine=0.8, by_meaning=False)) == set()
    assert await pairs(pool, LikenessPolicy(cosine=0.8)) == {("b", "a")}


async def test_words_can_be_left_out_of_the_comparison(pool: Pool) -> None:
    await remember(pool, "a", talk(1))
    await remember(pool, "b", nearly(talk(1)), minute=1)

    assert await pairs(pool, LikenessPolicy(by_words=False)) == set()
    assert await pairs(pool) == {("b", "a")}


async def test_other_words_need_another_embedding(pool: Pool) -> None:
    await remember(pool, "a", talk(1), vector=vector(1))
    await pool.execute("UPDATE vectors.karma SET why = 'asked for' WHERE id = 'a'")
    assert await pool.fetchval("SELECT embedding_model FROM vectors.karma WHERE id = 'a'") == MODEL
    await remember(pool, "a", talk(2))
    assert await pool.fetchval("SELECT embedding_model FROM vectors.karma WHERE id = 'a'") is None


def test_the_lesson_that_is_compared_is_that_of_the_bands() -> None:
    said = conversation(talk(1))

    assert scanner().scan(_json(said), "[]", None).bands == read_lesson(said).bands()


def _json(value: Sequence[object]) -> str:
    return json.dumps(value)
