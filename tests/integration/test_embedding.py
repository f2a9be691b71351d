"""The embedder as a real child process with the real model, rows embedded in the background, and the index in use."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import numpy as np
import psutil
import pytest

from services.harvester.embedding import keep
from services.harvester.embedding.embedder import Embedder, EmbedderFailed, EmbedderMissing
from services.harvester.embedding.model import DIMS, MODEL, WORDLESS
from services.harvester.embedding.search import nearest, nearest_sql, use_vectors, within
from shared.config.model import embedded
from shared.config.settings import PROJECT, Settings
from shared.config.tables import JobsConfig
from shared.ritual import lease
from shared.runtime.loops import repeat
from shared.storage.postgres import Connection, Pool

PYTHON = JobsConfig().python
needs_torch = pytest.mark.skipif(not PYTHON.is_file(), reason=f"needs the jobs environment at {PYTHON}")


@pytest.fixture
async def embedder() -> AsyncIterator[Embedder]:
    async with Embedder(PYTHON, PROJECT) as one:
        yield one


class Fake:
    """An embedder without a model: a text's vector follows from its words; some may be fatal to it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.seen: list[str] = []
        self.ended = 0
        self.meanwhile: Any = None

    async def embed(self, texts: list[str]) -> np.ndarray[Any, Any]:
        if self.error:
            raise self.error
        if self.meanwhile:
            await self.meanwhile()
        self.seen += texts
        return np.array([vector(hash(text) % 1000) for text in texts], dtype=np.float32).reshape(len(texts), DIMS)

    async def end(self) -> None:
        self.ended += 1


def vector(seed: int) -> list[float]:
    drawn = np.random.default_rng(seed).normal(size=DIMS)
    return [float(value) for value in drawn / np.linalg.norm(drawn)]


async def remember(pool: Pool, id: str, messages: Any, persona: str = "scribe", **values: Any) -> None:
    await pool.execute(
        "INSERT INTO vectors.karma (id, persona, messages, session, embedding, embedding_model) "
        "VALUES ($1, $2, $3, 's', $4::real[]::vector, $5)",
        id,
        persona,
        messages,
        values.get("vector"),
        values.get("model", MODEL if "vector" in values else None),
    )


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}]


@needs_torch
async def test_like_meanings_are_near_and_vectors_have_length_one(embedder: Embedder) -> None:
    texts = ["Where is the cat?", "Tell me where the cat is.", "Invoices are due in March.", "", "x " * 3000]
    vectors = await embedder.embed(texts)
    assert vectors.shape == (5, DIMS) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.8 > 0.3 > vectors[0] @ vectors[2]
    # The order of the answers is that of the texts, whatever the batches were sorted by.
    again = await embedder.embed(texts[::-1])
    assert np.allclose(again[::-1], vectors, atol=1e-5)
    assert (await embedder.embed([])).shape == (0, DIMS)


@needs_torch
async def test_what_the_model_was_not_trained_on_has_no_vector(embedder: Embedder) -> None:
    known = ["Wo ist die Katze, und wer füttert sie heute?", "ls -la | wc -l", "12 + 5", "Gdzie jest kot? Śpi."]
    unknown = [
        "ร้านเปิดกี่โมง",
        "阀门可以打开吗？",
        "Где кошка?",
        "वाल्व खोलिए",
        "أين القطة؟",
        "고양이는 어디에 있나요?",
        "猫はどこですか",
    ]
    vectors = await embedder.embed([*known, *unknown])

    assert [bool(vector.any()) for vector in vectors] == [True] * len(known) + [False] * len(unknown)


@needs_torch
async def test_a_killed_child_is_replaced_and_the_call_succeeds(embedder: Embedder) -> None:
    first = await embedder.embed(["hello"])
    assert embedder._child is not None
    os.kill(embedder._child.pid, signal.SIGKILL)
    assert np.allclose(await embedder.embed(["hello"]), first, atol=1e-5)


@needs_torch
async def test_the_child_is_told_nothing_and_ends_when_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOULFORGE_DATABASE", "postgresql://somewhere")
    async with Embedder(PYTHON, PROJECT, idle_s=0.2) as embedder:
        await embedder.embed(["hello"])
        assert embedder._child is not None
        child = psutil.Process(embedder._child.pid)
        assert child.nice() == min(19, psutil.Process().nice() + 10)
        assert "SOULFORGE_DATABASE" not in child.environ()
        async with asyncio.timeout(10):
            while embedder.running or psutil.pid_exists(child.pid):
                await asyncio.sleep(0.05)
        assert (await embedder.embed(["hello"])).shape == (1, DIMS)


async def test_a_missing_interpreter_says_what_to_do(tmp_path: Path) -> None:
    async with Embedder(tmp_path / "python", PROJECT) as embedder:
        with pytest.raises(EmbedderMissing, match="make setup"):
            await embedder.embed(["hello"])


async def test_an_environment_without_the_model_says_what_to_do() -> None:
    async with Embedder(PROJECT / ".venv/bin/python", PROJECT) as embedder:
        with pytest.raises(EmbedderMissing, match=r"torch.*make setup"):
            await embedder.embed(["hello"])
        assert not embedder.running


def script(folder: Path, body: str) -> Path:
    file = folder / "python"
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return file


async def test_a_child_that_dies_over_its_texts_twice_is_given_up(tmp_path: Path) -> None:
    greet = f'echo \'{{"model": "{MODEL}", "dims": {DIMS}}}\''
    async with Embedder(script(tmp_path, f"echo started >> {tmp_path}/starts; {greet}; read line"), tmp_path) as one:
        with pytest.raises(EmbedderFailed):
            await one.embed(["hello"])
    assert (tmp_path / "starts").read_text().split() == ["started", "started"]


async def test_a_call_that_is_given_up_leaves_no_half_answer_behind(tmp_path: Path) -> None:
    greet = f'echo \'{{"model": "{MODEL}", "dims": {DIMS}}}\''
    async with Embedder(script(tmp_path, f"{greet}; exec sleep 60"), tmp_path) as one:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(one.embed(["hello"]), 1)
        assert not one.running


@needs_torch
async def test_rows_without_an_embedding_get_one_and_wordless_ones_a_mark(pool: Pool, embedder: Embedder) -> None:
    await remember(pool, "cat", asked("Where is the cat?"))
    await remember(pool, "kitten", asked("Tell me where the cat is."))
    await remember(pool, "broken", {"role": "user"})
    await remember(pool, "known", asked("Known."), vector=[1.0, 0.0], model="another-model")

    assert await keep.embed_missing(pool, embedder, 10) == 3
    assert await keep.embed_missing(pool, embedder, 10) == 0

    rows = {row["id"]: row for row in await pool.fetch("SELECT * FROM vectors.karma")}
    assert {id: (row["embedding_model"], row["embedding_dims"]) for id, row in rows.items()} == {
        "cat": (MODEL, DIMS),
        "kitten": (MODEL, DIMS),
        "broken": (WORDLESS, 1),
        "known": ("another-model", 2),
    }
    async with pool.acquire() as conn:
        found = await nearest(conn, "scribe", MODEL, (await embedder.embed(["cat whereabouts"]))[0], 5)
    assert [one.karma for one in found] == ["cat", "kitten"] or [one.karma for one in found] == ["kitten", "cat"]


async def test_a_record_that_changes_meanwhile_keeps_no_stale_embedding(pool: Pool) -> None:
    await remember(pool, "a", asked("Old words."))
    fake = Fake()

    async def change() -> None:
        fake.meanwhile = None
        await pool.execute("UPDATE vectors.karma SET messages = $1 WHERE id = 'a'", asked("New words."))

    fake.meanwhile = change
    await keep.embed_missing(pool, fake, 10)  # type: ignore[arg-type]
    assert await pool.fetchval("SELECT embedding IS NULL FROM vectors.karma")
    await keep.embed_missing(pool, fake, 10)  # type: ignore[arg-type]
    assert await pool.fetchval("SELECT embedding_model FROM vectors.karma") == MODEL
    assert fake.seen == ["Old words.\nYes.", "New words.\nYes."]


async def test_the_background_rests_while_a_ritual_holds_the_anvil(pool: Pool, admin: Pool, settings: Settings) -> None:
    context: Any = SimpleNamespace(pool=pool, settings=settings, configuration=embedded())
    await remember(pool, "a", asked("Words."))
    ritual = uuid4()
    await pool.execute(
        "INSERT INTO ritual (id, intent_id, persona, intent, priority, state, trace_id) "
        "VALUES ($1, 'i', 'scribe', '{}', 1, 'evacuated', 't')",
        ritual,
    )
    fence = await lease.acquire(admin, embedded().forge, ritual, 1, 60)
    assert fence is not None
    fake: Any = Fake()
    assert await keep.embed_pass(context, fake) == keep.LOOK_S
    assert (fake.seen, fake.ended) == ([], 1)

    await lease.release(admin, embedded().forge, fence)
    assert await keep.embed_pass(context, fake) == 0
    assert len(fake.seen) == 1
    assert await keep.embed_pass(context, fake) == keep.LOOK_S


@pytest.mark.parametrize("error", [EmbedderMissing("x"), EmbedderFailed("x")])
async def test_the_background_outlives_what_fails(pool: Pool, settings: Settings, error: Exception) -> None:
    await remember(pool, "a", asked("Words."))
    context: Any = SimpleNamespace(pool=pool, settings=settings, configuration=embedded())
    assert await keep.embed_pass(context, Fake(error)) > 0  # type: ignore[arg-type]
    assert await pool.fetchval("SELECT embedding IS NULL FROM vectors.karma")


async def test_the_background_ends_when_its_service_does(pool: Pool, settings: Settings) -> None:
    context: Any = SimpleNamespace(pool=pool, settings=settings, configuration=embedded())
    task = asyncio.create_task(repeat(keep.embedding_loop(context, Embedder(PYTHON, PROJECT))))
    await asyncio.sleep(0.2)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def crowd(admin: Pool) -> None:
    """Two thousand records of one persona around one place, and thirty of another far from there."""
    drawn = np.random.default_rng(7)
    rows = [("coder", drawn.normal(size=DIMS) * 0.3 + 1) for _ in range(2000)]
    rows += [("scribe", drawn.normal(size=DIMS) - 0.5) for _ in range(30)]
    await admin.executemany(
        "INSERT INTO vectors.karma (id, persona, messages, session, embedding, embedding_model) "
        f"VALUES ($1, $2, '[]', 's', $3::real[]::vector, '{MODEL}')",
        [(f"k{number}", persona, value.tolist()) for number, (persona, value) in enumerate(rows)],
    )
    await admin.execute("ANALYZE vectors.karma")


async def plan(conn: Connection, persona: str) -> str:
    await use_vectors(conn)
    rows = await conn.fetch(f"EXPLAIN {nearest_sql(MODEL)}", persona, [1.0] * DIMS, 10)
    return "\n".join(row[0] for row in rows)


async def test_the_index_serves_the_search_and_a_rare_persona_still_gets_all_it_asks_for(
    pool: Pool, admin: Pool
) -> None:
    await crowd(admin)
    async with pool.acquire() as conn:
        assert "karma_minilm" in await plan(conn, "coder")
        # The planner may sort a rare persona's rows instead, which is exact: have it take the index.
        async with conn.transaction():
            await conn.execute("SET LOCAL enable_sort = off")
            assert "karma_minilm" in await plan(conn, "scribe")
            found = await nearest(conn, "scribe", MODEL, [1.0] * DIMS, 20)
            assert len(found) == 20
            assert [one.likeness for one in found] == sorted((one.likeness for one in found), reverse=True)


async def test_within_gives_all_that_are_like_enough_and_none_other(pool: Pool, admin: Pool) -> None:
    await crowd(admin)
    centre = [1.0] * DIMS
    likeness = await pool.fetch(
        f"SELECT id, 1 - (embedding <=> $1::real[]::vector) AS likeness FROM vectors.karma "
        f"WHERE embedding_model = '{MODEL}' AND persona = 'coder' ORDER BY likeness DESC",
        centre,
    )
    least = likeness[120]["likeness"]
    async with pool.acquire() as conn:
        found = await within(conn, "coder", MODEL, centre, least)
        assert await within(conn, "coder", MODEL, centre, 0.9999) == []
    assert all(one.likeness >= least for one in found)
    assert len({one.karma for one in found} & {row["id"] for row in likeness[:121]}) >= 110


async def test_rows_of_another_model_are_never_met(pool: Pool) -> None:
    await remember(pool, "ours", asked("a"), vector=vector(1))
    await remember(pool, "same dims", asked("a"), vector=vector(1), model="another-model")
    await remember(pool, "other dims", asked("a"), vector=[1.0, 0.0], model="a-small-model")
    async with pool.acquire() as conn:
        found = await nearest(conn, "scribe", MODEL, vector(1), 10)
    assert [one.karma for one in found] == ["ours"]
    assert found[0].likeness == pytest.approx(1, abs=1e-5)
