"""The gate in SAQ's tables: which rows it holds back, whose it leaves alone, and how it is renewed."""

from __future__ import annotations

from typing import Any

import asyncpg
from saq.queue.postgres import PostgresQueue

from shared.drivers.queues.saq import SaqQueue
from tests.support.saq_queues import A, database, dequeues, house_of_saq, look, queue, saq

__all__ = ["database", "house_of_saq", "look", "queue", "saq"]  # the fixtures


async def test_a_job_that_is_being_aborted_still_runs(
    saq: PostgresQueue, queue: SaqQueue, look: asyncpg.Connection[Any]
) -> None:
    await saq.enqueue("work", key="running")
    await dequeues(look)
    job = await saq.job("running")
    assert job is not None
    await job.abort("no more")
    await queue.hold(A)
    assert await queue.active() == 1


async def test_another_queue_in_the_same_tables_runs_on(
    database: str, saq: PostgresQueue, queue: SaqQueue, look: asyncpg.Connection[Any]
) -> None:
    await saq.enqueue("work", key="held")
    other = PostgresQueue(pool=saq.pool, name="other")
    await other.enqueue("work", key="free")
    await queue.hold(A)
    await dequeues(look)
    states = dict(await look.fetch("SELECT key, status FROM queue.saq_jobs"))
    assert states == {"held": "queued", "free": "active"}
    assert await queue.active() == 0


async def test_what_a_worker_writes_of_a_job_that_a_sweep_put_back_is_seen(
    saq: PostgresQueue, queue: SaqQueue, look: asyncpg.Connection[Any]
) -> None:
    await saq.enqueue("work", key="running")
    await queue.hold(A)
    await look.execute("UPDATE queue.saq_jobs SET status = 'active', job = job || ' '::bytea")
    assert await queue.active() == 1


async def test_an_older_or_disabled_gate_is_renewed_by_the_next_hold(
    saq: PostgresQueue, queue: SaqQueue, look: asyncpg.Connection[Any]
) -> None:
    await saq.enqueue("work", key="waiting")
    await queue.hold(A)
    await look.execute("ALTER TABLE queue.saq_jobs DISABLE TRIGGER soulforge_gate")
    await queue.hold(A)
    assert not await dequeues(look)
    await look.execute(
        "CREATE OR REPLACE FUNCTION queue.soulforge_gate() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
    )
    await look.execute("COMMENT ON FUNCTION queue.soulforge_gate IS 'older'")
    await queue.hold(A)
    assert not await dequeues(look)


async def test_a_worker_with_few_rights_is_held_without_an_error(
    saq: PostgresQueue, queue: SaqQueue, look: asyncpg.Connection[Any]
) -> None:
    await saq.enqueue("work", key="waiting")
    await queue.hold(A)
    await look.execute("CREATE ROLE someworker; GRANT USAGE ON SCHEMA queue TO someworker")
    await look.execute("GRANT SELECT, UPDATE ON queue.saq_jobs TO someworker; SET ROLE someworker")
    try:
        assert not await dequeues(look)
    finally:
        await look.execute("RESET ROLE; DROP OWNED BY someworker; DROP ROLE someworker")
