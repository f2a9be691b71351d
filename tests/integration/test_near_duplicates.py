"""Near duplicates on a real PostgreSQL: found among new ones and against old ones, once, and never by the square."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.harvester.embedding.model import DIMS, MODEL
from services.harvester.likeness import by_words, candidates
from services.harvester.likeness.minhash import bands
from services.harvester.likeness.near import compare
from services.harvester.likeness.policy import LikenessPolicy
from services.harvester.reading.words import spoken
from shared.storage.postgres import Connection, Pool

START = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = LikenessPolicy()
VOCABULARY = [f"w{number}" for number in range(5000)]


def talk(seed: int, length: int = 60) -> str:
    return " ".join(random.Random(seed).choices(VOCABULARY, k=length))


def nearly(text: str, seed: int = 0) -> str:
    """The same text with its last word changed: Jaccard about 0.97."""
    return " ".join([*text.split()[:-1], f"other{seed}"])


async def read(pool: Pool, id: str, text: str, minute: int = 0, **values: Any) -> None:
    """Remember a record and what was read in it."""
    messages = [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": text}]
    persona, vector = values.pop("persona", "scribe"), values.pop("vector", None)
    model = values.pop("model", MODEL if vector else None)
    await pool.execute(
        "INSERT INTO vectors.karma (id, persona, messages, session, embedding, embedding_model) "
        "VALUES ($1, $2, $3, 's', $4::real[]::vector, $5) ON CONFLICT (id) DO UPDATE SET messages = excluded.messages",
        id,
        persona,
        messages,
        vector,
        model,
    )
    said = spoken(messages)
    row: dict[str, Any] = {
        "karma": id,
        "persona": persona,
        "created_at": START + timedelta(minutes=minute),
        "text": hashlib.sha256(" ".join(said).encode()).digest(),
        "bands": bands(said),
    } | values
    await write(pool, row)


async def write(pool: Pool, row: dict[str, Any]) -> None:
    """A reading; what does not matter to likeness gets the empty value of its type."""
    needed = await pool.fetch(
        "SELECT column_name AS name, data_type AS type FROM information_schema.columns "
        "WHERE table_schema = 'harvester' AND table_name = 'reading' AND is_nullable = 'NO' AND column_default IS NULL"
    )
    empty = {"text": "''", "boolean": "true", "bytea": "''::bytea", "xid8": "'1'::xid8"}
    rest = {column["name"]: empty.get(column["type"], "0") for column in needed if column["name"] not in row}
    places = [f"${place}" for place in range(1, len(row) + 1)]
    await pool.execute(
        f"INSERT INTO reading ({', '.join([*row, *rest])}) VALUES ({', '.join([*places, *rest.values()])}) "
        "ON CONFLICT (karma) DO UPDATE SET bands = excluded.bands, text = excluded.text, compared = false",
        *row.values(),
    )


async def look(pool: Pool, policy: LikenessPolicy = POLICY, **values: Any) -> int:
    async with pool.acquire() as conn:
        return await compare(conn, "scribe", policy, **values)


async def pairs(pool: Pool) -> set[tuple[str, str, str]]:
    rows = await pool.fetch("SELECT karma, other, measure FROM near_duplicate")
    return {(row["karma"], row["other"], row["measure"]) for row in rows}


def vector(seed: int, turned: float = 0.0) -> list[float]:
    """A vector of length 1; `turned` mixes another direction in."""
    a, b = random.Random(seed), random.Random(seed + 10_000)
    mixed = [a.gauss(0, 1) + turned * b.gauss(0, 1) for _ in range(DIMS)]
    length = sum(value * value for value in mixed) ** 0.5
    return [value / length for value in mixed]


async def test_near_duplicates_are_found_among_new_records_and_against_old_ones(pool: Pool) -> None:
    await read(pool, "a", talk(1))
    await read(pool, "b", nearly(talk(1)), minute=1)
    await read(pool, "c", talk(2), minute=2)
    assert await look(pool) == 3
    assert await pairs(pool) == {("b", "a", "minhash")}

    await read(pool, "d", nearly(talk(2)), minute=3)
    assert await look(pool) == 1
    assert await pairs(pool) == {("b", "a", "minhash"), ("d", "c", "minhash")}
    assert await look(pool) == 0


async def test_the_later_record_is_the_duplicate_even_when_it_was_read_first(pool: Pool) -> None:
    await read(pool, "z-late", talk(1), minute=9)
    await look(pool)
    await read(pool, "a-early", nearly(talk(1)), minute=1)
    await look(pool)
    assert await pairs(pool) == {("z-late", "a-early", "minhash")}


async def test_at_one_and_the_same_time_the_id_decides(pool: Pool) -> None:
    await read(pool, "b", talk(1))
    await read(pool, "a", nearly(talk(1)))
    await look(pool)
    assert await pairs(pool) == {("b", "a", "minhash")}


async def test_equal_texts_corrections_refused_records_and_other_personas_are_no_pairs(pool: Pool) -> None:
    await read(pool, "a", talk(1))
    await read(pool, "copy", talk(1), minute=1)
    await read(pool, "refused", nearly(talk(1), 2), minute=2, reason="quarantined")
    await read(pool, "correction", nearly(talk(1), 3), minute=3, parent="a")
    await read(pool, "elsewhere", nearly(talk(1), 4), minute=4, persona="coder")
    await look(pool)
    assert await pairs(pool) == set()
    assert not await pool.fetchval("SELECT compared FROM reading WHERE karma = 'elsewhere'")


async def test_a_shared_band_is_no_proof(pool: Pool) -> None:
    await read(pool, "a", talk(1))
    await read(pool, "b", talk(2), minute=1, bands=bands(spoken([{"role": "user", "content": f"Say it. {talk(1)}"}])))
    await look(pool)
    assert await pairs(pool) == set()


async def test_the_threshold_is_the_policys(pool: Pool) -> None:
    await read(pool, "a", talk(1))
    await read(pool, "b", nearly(talk(1)), minute=1)
    await look(pool, LikenessPolicy(jaccard=0.99))
    assert await pairs(pool) == set()


async def test_a_record_that_is_read_anew_is_compared_anew(pool: Pool) -> None:
    await read(pool, "a", talk(1))
    await read(pool, "b", talk(2), minute=1)
    await look(pool)
    await read(pool, "b", nearly(talk(1)), minute=1)
    assert await look(pool) == 1
    assert await pairs(pool) == {("b", "a", "minhash")}


async def test_a_record_that_is_compared_anew_is_weighed_anew(pool: Pool) -> None:
    await read(pool, "a", talk(1), vector=vector(1))
    await read(pool, "b", talk(2), minute=1, vector=vector(1, turned=0.1))
    await look(pool)
    await pool.execute("UPDATE reading SET compared = false")
    await look(pool)
    assert await pairs(pool) == {("b", "a", "cosine")}


async def test_what_was_said_of_other_words_is_forgotten(pool: Pool) -> None:
    await read(pool, "a", talk(1), vector=vector(1))
    await read(pool, "b", nearly(talk(1)), minute=1)
    await read(pool, "c", talk(3), minute=2, vector=vector(1, turned=0.1))
    await look(pool)
    assert await pairs(pool) == {("b", "a", "minhash"), ("c", "a", "cosine")}
    await read(pool, "a", talk(2))
    await look(pool)
    assert await pairs(pool) == set()


async def test_a_run_that_is_cut_short_is_made_up_for(pool: Pool) -> None:
    await read(pool, "a", talk(1))
    await read(pool, "b", nearly(talk(1)), minute=1)

    async def lost(conn: Connection, ids: Sequence[str]) -> dict[str, list[str]]:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        await look(pool, read_words=lost)
    assert await pool.fetchval("SELECT count(*) FROM reading WHERE compared") == 0
    assert await look(pool) == 2
    assert await pairs(pool) == {("b", "a", "minhash")}


async def test_boilerplate_hangs_together_without_a_pair_for_every_two(pool: Pool) -> None:
    count = 300
    text = talk(1, length=120)
    for number in range(count):
        await read(pool, f"k{number:04}", nearly(text, number), minute=number)
    async with pool.acquire() as conn:
        await candidates.gather(conn, "scribe")
        offered = await conn.fetchval("SELECT count(*) FROM likeness_pair")
        await candidates.drop(conn)
    assert offered < count * 40 < count * (count - 1) / 2

    await look(pool)

    found = await pairs(pool)
    assert {later for later, _, _ in found} == {f"k{number:04}" for number in range(1, count)}


async def test_every_planted_near_duplicate_is_found_in_one_run_or_in_many(pool: Pool) -> None:
    for number in range(120):
        await read(pool, f"a{number:03}", talk(number), minute=number)
        await read(pool, f"b{number:03}", nearly(talk(number)), minute=1000 + number)
        if number % 40 == 20:
            await look(pool)
    await look(pool)
    assert await pairs(pool) == {(f"b{number:03}", f"a{number:03}", "minhash") for number in range(120)}


async def test_few_new_records_meet_every_old_one_that_shares_a_band(pool: Pool) -> None:
    for number in range(60):
        await read(pool, f"a{number:03}", talk(number), minute=number)
    await look(pool)
    await read(pool, "new", nearly(talk(7)), minute=100)
    async with pool.acquire() as conn:
        await candidates.gather(conn, "scribe")
        kept = {row["karma"] for row in await conn.fetch("SELECT karma FROM likeness_row")}
        await candidates.drop(conn)
    assert kept == {"new", "a007"}
    await look(pool)
    assert await pairs(pool) == {("new", "a007", "minhash")}


async def test_nothing_temporary_stays_behind(pool: Pool) -> None:
    await read(pool, "a", talk(1), vector=vector(1))
    async with pool.acquire() as conn:
        await compare(conn, "scribe", POLICY, by_words.words_of_karma)
        left = await conn.fetch("SELECT relname FROM pg_class WHERE relname LIKE 'likeness%'")
    assert left == []


async def test_records_of_like_meaning_are_found_also_when_their_embedding_comes_later(pool: Pool) -> None:
    await read(pool, "a", talk(1), vector=vector(1))
    await read(pool, "b", talk(2), minute=1)
    await read(pool, "c", talk(3), minute=2, vector=vector(3))
    await look(pool)
    assert await pairs(pool) == set()

    await pool.execute(
        "UPDATE vectors.karma SET embedding = $1::real[]::vector, embedding_model = $2 WHERE id = 'b'",
        vector(1, turned=0.1),
        MODEL,
    )
    await look(pool)
    assert await pairs(pool) == {("b", "a", "cosine")}


async def test_meaning_is_never_compared_across_models(pool: Pool) -> None:
    await read(pool, "a", talk(1), vector=vector(1), model="another-model")
    await read(pool, "b", talk(2), minute=1, vector=vector(1))
    await look(pool)
    assert await pairs(pool) == set()


async def test_meaning_has_its_own_threshold_and_switch(pool: Pool) -> None:
    await read(pool, "a", talk(1), vector=vector(1))
    await read(pool, "b", talk(2), minute=1, vector=vector(1, turned=0.5))  # cosine about 0.9
    await look(pool)
    assert await pairs(pool) == set()
    await pool.execute("UPDATE reading SET weighed = false")
    await look(pool, LikenessPolicy(cosine=0.8, by_meaning=False))
    assert await pairs(pool) == set()
    await look(pool, LikenessPolicy(cosine=0.8))
    assert await pairs(pool) == {("b", "a", "cosine")}


async def test_words_can_be_left_out_of_the_comparison(pool: Pool) -> None:
    await read(pool, "a", talk(1))
    await read(pool, "b", nearly(talk(1)), minute=1)
    assert await look(pool, LikenessPolicy(by_words=False)) == 0
    assert await pairs(pool) == set()
    assert await look(pool) == 2
    assert len(await pairs(pool)) == 1


async def test_other_words_need_another_embedding(pool: Pool) -> None:
    await read(pool, "a", talk(1), vector=vector(1))
    await pool.execute("UPDATE vectors.karma SET why = 'asked for' WHERE id = 'a'")
    assert await pool.fetchval("SELECT embedding_model FROM vectors.karma WHERE id = 'a'") == MODEL
    await read(pool, "a", talk(2))
    assert await pool.fetchval("SELECT embedding_model FROM vectors.karma WHERE id = 'a'") is None
