"""Reading what changed: once, in as many processes as it takes, and on from where it was cut short."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.harvester import workers
from services.harvester.manifest.write import ChangedMeanwhile
from services.harvester.reading import catch_up
from services.harvester.reading.reader import Reader
from services.harvester.reading.way import Way
from services.harvester.redaction.policy import RedactionPolicy
from shared.storage.postgres import Pool
from tests.support.harvests import SUITES, example, harvested, record, remember

WAY = Way(RedactionPolicy(), "key", SUITES, "train", with_bands=True)


async def read(pool: Pool, heard: Any = lambda *_: None) -> int:
    """Read the scribe's karma; how many records were read."""
    read: list[int] = [0]

    def count(done: int, total: int) -> None:
        read[0] = done
        heard(done, total)

    await catch_up.catch_up(pool, "scribe", WAY, None, count)
    return read[0]


async def test_only_what_changed_is_read_again(pool: Pool) -> None:
    await remember(pool, example("scribe"))

    assert await read(pool) == 243
    assert await read(pool) == 0
    await pool.execute("UPDATE vectors.karma SET licence = 'none' WHERE id = 'scribe-bakery-01'")
    await remember(pool, [record("new", "s", "Why?", "Because.")])
    assert await read(pool) == 2
    assert await pool.fetchval("SELECT licence FROM reading WHERE karma = 'scribe-bakery-01'") == "none"


async def test_an_embedding_is_no_change(pool: Pool) -> None:
    await remember(pool, example("scribe"))
    await read(pool)

    await pool.execute("UPDATE vectors.karma SET embedding = '[1,2]', embedding_model = 'other'")

    assert await read(pool) == 0


async def test_a_record_that_was_written_beside_the_reading_is_read_the_next_time(pool: Pool) -> None:
    await remember(pool, example("scribe"))
    late = await pool.acquire()
    try:
        transaction = late.transaction()
        await transaction.start()
        await late.execute(
            "INSERT INTO vectors.karma (id, persona, messages, session) VALUES ('late', 'scribe', '[]', 's')"
        )
        await read(pool)
        await pool.execute(
            "UPDATE vectors.karma SET why = 'later, but committed earlier' WHERE id = 'scribe-bakery-01'"
        )
        await read(pool)
        await transaction.commit()
    finally:
        await pool.release(late)

    await read(pool)

    assert await pool.fetchval("SELECT count(*) FROM reading WHERE karma = 'late'") == 1


async def test_a_record_that_is_gone_is_forgotten(pool: Pool) -> None:
    await remember(pool, example("scribe"))
    await read(pool)

    await pool.execute("DELETE FROM vectors.karma WHERE id = 'scribe-bakery-01'")

    assert await pool.fetchval("SELECT count(*) FROM reading") == 242


async def test_a_reading_that_was_cut_short_goes_on_where_it_was(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catch_up, "BATCH", 50)
    await remember(pool, example("scribe"))

    def cut(done: int, total: int) -> None:
        if done >= 100:
            raise RuntimeError("cut")

    with pytest.raises(RuntimeError, match="cut"):
        await read(pool, cut)

    assert await read(pool) == 143


async def test_several_processes_read_what_one_does(
    pool: Pool, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await remember(pool, example("scribe"))
    alone, _ = await harvested(pool, tmp_path / "one")
    await pool.execute("TRUNCATE reading, reading_mark, near_duplicate, sealed, segment CASCADE")
    monkeypatch.setattr(workers, "WORTH_PROCESSES", 10)

    together, _ = await harvested(pool, tmp_path / "two", database=database)

    assert (together.manifest, together.holdout) == (alone.manifest, alone.holdout)
    assert await pool.fetchval("SELECT count(*) FROM reading") == 243


async def fail(reader: Reader, pool: Pool, count: Callable[[int], None], part: int) -> None:
    """Work for another process: the second part cannot be done."""
    if part == 2:
        raise ChangedMeanwhile("part 2")
    count(part)


async def test_what_fails_in_a_process_fails_here_with_its_own_error(database: str) -> None:
    processes = workers.Workers(database, WAY, 2)
    try:
        with pytest.raises(ChangedMeanwhile, match="part 2"):
            await processes.each(fail, [1, 2, 3, 4], lambda _: None)
        told: list[int] = []
        await processes.each(fail, [1, 3], told.append)
    finally:
        processes.close()

    assert told[-1] == 4
