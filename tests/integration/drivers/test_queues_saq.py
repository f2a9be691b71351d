"""SAQ's queues are held from outside: real workers in processes of their own, on the real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
from saq.queue.postgres import PostgresQueue

from shared.config.settings import PROJECT
from shared.drivers.queues.saq import SaqQueue, describe
from tests.support.saq_queues import A, database, house_of_saq, look, queue, rows, saq, until

__all__ = ["database", "house_of_saq", "look", "queue", "saq"]  # the fixtures

WORKER = PROJECT / "tests" / "support" / "queue_workers.py"


@contextmanager
def worker(database: str, log: Path, concurrency: int, *extras: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, str(WORKER), database, str(concurrency), *extras], stdout=file, stderr=file
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def count(look: asyncpg.Connection[Any], what: str) -> Callable[[], Awaitable[int]]:
    async def counted() -> int:
        return int(await look.fetchval(f"SELECT count(*) FROM queue.ran WHERE {what}"))

    return counted


async def ended(look: asyncpg.Connection[Any], least: int) -> bool:
    return await count(look, "ended IS NOT NULL")() >= least


async def now(look: asyncpg.Connection[Any]) -> Any:
    return await look.fetchval("SELECT clock_timestamp()")


async def test_of_200_jobs_half_enqueued_during_the_hold_each_runs_once_and_none_during_it(
    database: str, saq: PostgresQueue, queue: SaqQueue, look: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    for number in range(100):
        await saq.enqueue("work", key=f"before-{number:03}", seconds=0.05)
    with worker(database, log, 8):
        await until(lambda: ended(look, 20), log)
        began = monotonic()
        await queue.hold(A)
        hold_s = monotonic() - began
        taken = {row["key"] for row in await look.fetch("SELECT key FROM queue.saq_jobs WHERE status = 'active'")}
        held_at = await now(look)
        left = await queue.drained()
        drained_at = await now(look)
        ran_before = await count(look, "true")()
        for number in range(100):
            await saq.enqueue("work", key=f"during-{number:03}", seconds=0.02)
        await asyncio.sleep(3)  # long enough for the worker's own look at the queue, every second
        released_at = await now(look)
        await queue.release(A)
        await until(lambda: ended(look, 200), log)
        await asyncio.sleep(0.5)
    during = await look.fetch("SELECT job FROM queue.ran WHERE started > $1 AND started < $2", held_at, released_at)
    overlapping = await look.fetchval(
        "SELECT count(*) FROM queue.ran WHERE started < $2 AND ended > $1", drained_at, released_at
    )
    runs = [row["n"] for row in await look.fetch("SELECT count(*) AS n FROM queue.ran GROUP BY job")]
    states = dict(await look.fetch("SELECT status, count(*) FROM queue.saq_jobs GROUP BY status"))
    print(
        f"\nSAQ: 200 jobs, {ran_before} begun before the hold, {len(taken)} of them active at it, hold {hold_s * 1000:.0f} ms; "
        f"held {(released_at - drained_at).total_seconds():.1f} s, {overlapping} ran then; "
        f"{len(runs)} jobs ran, at most {max(runs)} times"
    )
    assert left == ()
    assert {row["job"] for row in during} <= taken
    assert overlapping == 0
    assert 20 <= ran_before < 100
    assert runs == [1] * 200
    assert states == {"complete": 200}


async def test_what_could_start_now_is_the_depth_of_the_queue(saq: PostgresQueue, queue: SaqQueue) -> None:
    assert await queue.waiting() == 0
    for _ in range(3):
        await saq.enqueue("work", seconds=0)
    await saq.enqueue("work", seconds=0, scheduled=time.time() + 3600)

    assert await queue.waiting() == 3


async def test_order_is_kept_and_nothing_of_a_waiting_job_is_changed(
    database: str, saq: PostgresQueue, queue: SaqQueue, look: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    places = [(priority, 1000 - number) for number, priority in enumerate((5, 0, 9, 0, 5, 1, 0, 9, 5, 0))]
    await queue.hold(A)
    for priority, scheduled in places:
        await saq.enqueue("work", key=f"{priority}-{scheduled:04}", priority=priority, scheduled=scheduled)
    before = await rows(look)
    with worker(database, tmp_path / "worker.log", 1):
        await until(lambda: _listens(look), tmp_path / "worker.log")
        await asyncio.sleep(2.5)
        during = await rows(look)
        await queue.release(A)
        await until(lambda: ended(look, len(places)), tmp_path / "worker.log")
    order = [row["job"] for row in await look.fetch("SELECT job FROM queue.ran ORDER BY started")]
    assert during == before
    assert order == [f"{priority}-{scheduled:04}" for priority, scheduled in sorted(places)]


async def _listens(look: asyncpg.Connection[Any]) -> bool:
    return bool(await look.fetchval("SELECT count(*) FROM pg_stat_activity WHERE query ILIKE 'LISTEN%saq:gpu%'"))


async def test_scheduled_repeated_and_cron_jobs_that_become_due_wait_for_the_release(
    database: str, saq: PostgresQueue, queue: SaqQueue, look: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    with worker(database, log, 4, "cron"):
        await until(lambda: ended(look, 1), log)
        await saq.enqueue("stumble", key="repeated", seconds=1.5, retries=3)
        await until(lambda: _ran(look, "repeated", 1), log)
        await queue.hold(A)
        await saq.enqueue("work", key="scheduled", scheduled=int((await now(look)).timestamp()) + 1)
        assert await queue.drained() == ()
        drained_at = await now(look)
        await asyncio.sleep(3)
        begun = await look.fetchval("SELECT count(*) FROM queue.ran WHERE started > $1", drained_at)
        waiting = await look.fetch("SELECT key FROM queue.saq_jobs WHERE status = 'queued' ORDER BY key")
        await queue.release(A)
        await until(lambda: _ran(look, "repeated", 2), log)
        await until(lambda: _ran(look, "scheduled", 1), log)
        ticks = await count(look, "job = 'cron:tick'")()
        await until(lambda: _ran(look, "cron:tick", ticks + 2), log)
    attempts = [row["attempt"] for row in await look.fetch("SELECT attempt FROM queue.ran WHERE job = 'repeated'")]
    assert begun == 0
    assert [row["key"] for row in waiting] == ["cron:tick", "repeated", "scheduled"]
    assert attempts == [1, 2]


async def _ran(look: asyncpg.Connection[Any], key: str, least: int) -> bool:
    return bool(await look.fetchval("SELECT count(*) >= $2 FROM queue.ran WHERE job = $1", key, least))


async def test_a_dead_workers_job_is_put_back_by_the_sweep_and_waits_for_the_release(
    database: str, saq: PostgresQueue, queue: SaqQueue, look: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    await saq.enqueue("work", key="orphan", seconds=0.5, timeout=1, retries=2)
    with worker(database, log, 2) as process:
        await until(lambda: _ran(look, "orphan", 1), log)
        process.send_signal(signal.SIGKILL)
        process.wait()
    await queue.hold(A)
    assert await queue.active() == 1
    assert "queue gpu: work (orphan) on worker " in (await queue.drained(0))[0]
    with worker(database, log, 2):
        assert await queue.drained(40) == ()
        await asyncio.sleep(2)
        assert await count(look, "true")() == 1
        await queue.release(A)
        await until(lambda: _ran(look, "orphan", 2), log)


def test_a_job_is_named_also_where_its_form_is_not_known() -> None:
    job = json.dumps({"function": "embed", "worker_id": "w1", "started": 5_000}).encode()
    assert describe("gpu", "k", job, 12.0) == "queue gpu: embed (k) on worker w1, for 7 s"
    assert describe("gpu", "k", b"\x80pickled", 12.0) == "queue gpu: job k"
    assert describe("gpu", "k", b"[1]", 12.0) == "queue gpu: job k"
