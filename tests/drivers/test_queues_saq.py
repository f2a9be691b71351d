"""SAQ's queues are held from outside: real workers in processes of their own, on the real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
import pytest
from saq.queue.postgres import PostgresQueue

from shared.configuration.model import SaqConfig
from shared.drivers.queues.port import QueueError
from shared.drivers.queues.saq import SaqQueue, describe

WORKER = Path(__file__).parent / "queue_workers.py"
DEADLINE_S = 60
A, B = "anvil0/17", "anvil1/3"
CONFIG = SaqConfig.model_validate({"driver": "saq", "names": ("gpu",), "grace_s": 20})

HOLDER = """
import asyncio, os, signal, sys
import asyncpg
from shared.configuration.model import SaqConfig
from shared.drivers.queues.saq import SaqQueue

url, call, last = sys.argv[1], sys.argv[2], int(sys.argv[3])
said = 0

def counted(name):
    real = getattr(asyncpg.Connection, name)
    async def call(self, *arguments, **options):
        global said
        answer = await real(self, *arguments, **options)
        said += 1
        if said == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
    setattr(asyncpg.Connection, name, call)

for name in ("execute", "fetchval", "fetch"):
    counted(name)
config = SaqConfig.model_validate({"driver": "saq", "names": ("gpu",)})
asyncio.run(getattr(SaqQueue(config, url), call)("anvil0/17"))
"""


@pytest.fixture
async def house_of_saq(database: str) -> AsyncIterator[tuple[PostgresQueue, asyncpg.Connection[Any]]]:
    """The schema `queue` with SAQ's own tables, all empty; a queue to put jobs in, and a connection to look."""
    look = await asyncpg.connect(database)
    await look.execute("DROP SCHEMA IF EXISTS queue CASCADE; CREATE SCHEMA queue")
    await look.execute(
        "CREATE TABLE queue.ran (id serial PRIMARY KEY, job text, attempt int, started timestamptz, ended timestamptz)"
    )
    saq = PostgresQueue.from_url(f"{database}?options=-csearch_path%3Dqueue", name="gpu", min_size=1, max_size=4)
    await saq.connect()
    yield saq, look
    await saq.disconnect()
    await look.execute("DROP SCHEMA queue CASCADE")
    await look.close()


@pytest.fixture
def saq(house_of_saq: tuple[PostgresQueue, asyncpg.Connection[Any]]) -> PostgresQueue:
    return house_of_saq[0]


@pytest.fixture
def look(house_of_saq: tuple[PostgresQueue, asyncpg.Connection[Any]]) -> asyncpg.Connection[Any]:
    return house_of_saq[1]


@pytest.fixture
def queue(saq: PostgresQueue, database: str) -> SaqQueue:
    return SaqQueue(CONFIG, database)


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


async def until(happens: Callable[[], Awaitable[bool]], log: Path | None = None) -> None:
    deadline = monotonic() + DEADLINE_S
    while not await happens():
        assert monotonic() < deadline, log.read_text()[-2000:] if log and log.exists() else "it did not happen"
        await asyncio.sleep(0.02)


def count(look: asyncpg.Connection[Any], what: str) -> Callable[[], Awaitable[int]]:
    async def counted() -> int:
        return int(await look.fetchval(f"SELECT count(*) FROM queue.ran WHERE {what}"))

    return counted


async def ended(look: asyncpg.Connection[Any], least: int) -> bool:
    return await count(look, "ended IS NOT NULL")() >= least


async def now(look: asyncpg.Connection[Any]) -> Any:
    return await look.fetchval("SELECT clock_timestamp()")


async def rows(look: asyncpg.Connection[Any]) -> list[tuple[Any, ...]]:
    """All that SAQ keeps of its jobs, and where each lies."""
    return [tuple(row) for row in await look.fetch("SELECT ctid::text, * FROM queue.saq_jobs ORDER BY key")]


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


async def test_a_dequeue_under_way_is_waited_for_and_counts_as_active(
    database: str, saq: PostgresQueue, queue: SaqQueue, look: asyncpg.Connection[Any]
) -> None:
    await queue.hold(A)
    await queue.release(A)
    await saq.enqueue("work", key="taken")
    await saq.enqueue("work", key="left")
    dequeue = look.transaction()
    await dequeue.start()
    taken = "UPDATE queue.saq_jobs SET status = 'active' WHERE key = $1 RETURNING key"
    assert await look.fetchval(taken, "taken") == "taken"
    holding = asyncio.create_task(queue.hold(A))
    await until(lambda: _waits_for_a_lock(database))
    assert await look.fetchval(taken, "left") is None
    assert not holding.done()
    await dequeue.commit()
    await holding
    assert await queue.running() == ("queue gpu: work (taken) on worker unknown",)
    assert await queue.drained(0.5) == await queue.running()


async def _waits_for_a_lock(database: str) -> bool:
    look = await asyncpg.connect(database)
    try:
        return bool(await look.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
    finally:
        await look.close()


async def test_a_dequeue_that_never_ends_makes_the_hold_fail_with_the_reason(
    saq: PostgresQueue, queue: SaqQueue, look: asyncpg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.hold(A)
    await queue.release(A)
    await saq.enqueue("work", key="taken")
    monkeypatch.setattr("shared.drivers.queues.saq.LOCK_S", 1)
    async with look.transaction():
        await look.execute("UPDATE queue.saq_jobs SET status = 'active'")
        with pytest.raises(QueueError, match="did not end within 1 s: try again"):
            await queue.hold(A)
    await queue.hold(A)
    assert await queue.active() == 1


async def test_two_holders_must_both_let_go_and_both_words_may_be_said_twice(
    saq: PostgresQueue, queue: SaqQueue, look: asyncpg.Connection[Any]
) -> None:
    await saq.enqueue("work", key="waiting")
    assert await queue.held() == ()
    await queue.release(A)
    for holder in (A, B, A, B):
        await queue.hold(holder)
    assert await queue.held() == (A, B)
    assert not await _dequeues(look)
    await queue.release(A)
    await queue.release(A)
    assert await queue.held() == (B,)
    assert not await _dequeues(look)
    await queue.release(B)
    assert await queue.held() == ()
    with pytest.raises(QueueError, match="call hold first"):
        await queue.drained()
    assert await _dequeues(look)


async def _dequeues(look: asyncpg.Connection[Any]) -> bool:
    return bool(await look.fetchval("UPDATE queue.saq_jobs SET status = 'active' RETURNING true"))


async def test_a_holder_killed_after_any_statement_is_taken_over_and_released_by_another(
    database: str, saq: PostgresQueue, queue: SaqQueue, look: asyncpg.Connection[Any]
) -> None:
    await saq.enqueue("work", key="waiting")
    before = (await rows(look))[0][1:]
    killed: dict[str, int] = {}
    for call in ("hold", "release"):
        for last in range(1, 50):
            if call == "hold":
                await look.execute("DROP FUNCTION IF EXISTS queue.soulforge_gate CASCADE")
                await look.execute("DROP TABLE IF EXISTS queue.soulforge_hold")
            else:
                await queue.hold(A)
            ended = await asyncio.to_thread(_run_holder, database, call, last)
            await queue.hold(A)
            assert await queue.held() == (A,)
            assert not await _dequeues(look)
            await queue.release(A)
            assert await queue.held() == ()
            if ended == 0:
                break
            assert ended == -signal.SIGKILL
            killed[call] = last
    print(f"\nkilled after each of {killed} statements")
    assert killed["hold"] >= 5 and killed["release"] >= 2
    assert (await rows(look))[0][1:] == before
    assert await _dequeues(look)


def _run_holder(database: str, call: str, last: int) -> int:
    return subprocess.run([sys.executable, "-c", HOLDER, database, call, str(last)], timeout=60, check=False).returncode


async def test_a_job_that_is_being_aborted_still_runs(
    saq: PostgresQueue, queue: SaqQueue, look: asyncpg.Connection[Any]
) -> None:
    await saq.enqueue("work", key="running")
    await _dequeues(look)
    job = await saq.job("running")
    assert job is not None
    await job.abort("no more")
    await queue.hold(A)
    assert await queue.active() == 1


async def test_the_release_wakes_the_workers_at_once(
    saq: PostgresQueue, queue: SaqQueue, look: asyncpg.Connection[Any]
) -> None:
    woken = asyncio.Event()
    await look.add_listener("saq:gpu", lambda *heard: woken.set() if heard[-1] == "saq:enqueue" else None)
    await queue.hold(A)
    assert not woken.is_set()
    await queue.release(A)
    async with asyncio.timeout(DEADLINE_S):
        await woken.wait()
    await look.reset()


async def test_a_queue_that_was_taken_out_of_the_configuration_is_released_too(
    database: str, queue: SaqQueue, look: asyncpg.Connection[Any]
) -> None:
    await SaqQueue(CONFIG.model_copy(update={"names": ("gpu", "other")}), database).hold(A)
    await queue.release(A)
    assert await look.fetchval("SELECT count(*) FROM queue.soulforge_hold") == 0


async def test_another_queue_in_the_same_tables_runs_on(
    database: str, saq: PostgresQueue, queue: SaqQueue, look: asyncpg.Connection[Any]
) -> None:
    await saq.enqueue("work", key="held")
    other = PostgresQueue(pool=saq.pool, name="other")
    await other.enqueue("work", key="free")
    await queue.hold(A)
    await _dequeues(look)
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
    assert not await _dequeues(look)
    await look.execute(
        "CREATE OR REPLACE FUNCTION queue.soulforge_gate() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
    )
    await look.execute("COMMENT ON FUNCTION queue.soulforge_gate IS 'older'")
    await queue.hold(A)
    assert not await _dequeues(look)


async def test_a_worker_with_few_rights_is_held_without_an_error(
    saq: PostgresQueue, queue: SaqQueue, look: asyncpg.Connection[Any]
) -> None:
    await saq.enqueue("work", key="waiting")
    await queue.hold(A)
    await look.execute("CREATE ROLE someworker; GRANT USAGE ON SCHEMA queue TO someworker")
    await look.execute("GRANT SELECT, UPDATE ON queue.saq_jobs TO someworker; SET ROLE someworker")
    try:
        assert not await _dequeues(look)
    finally:
        await look.execute("RESET ROLE; DROP OWNED BY someworker; DROP ROLE someworker")


async def test_what_the_owner_must_do_is_said(database: str, queue: SaqQueue, look: asyncpg.Connection[Any]) -> None:
    elsewhere = SaqQueue(CONFIG.model_copy(update={"schema_name": "nowhere"}), database)
    for call in (elsewhere.hold(A), elsewhere.active()):
        with pytest.raises(QueueError, match=r"no table nowhere\.saq_jobs for the queues gpu: start their worker once"):
            await call
    assert await elsewhere.held() == ()
    unreachable = SaqQueue(CONFIG.model_copy(update={"database": "postgresql://x@127.0.0.1:1/x"}), database)
    with pytest.raises(QueueError, match="is their PostgreSQL up, and is `database` its URL"):
        await unreachable.held()
    with pytest.raises(QueueError, match="name it anvil/fence"):
        await queue.hold("somebody")


def test_a_job_is_named_also_where_its_form_is_not_known() -> None:
    job = json.dumps({"function": "embed", "worker_id": "w1", "started": 5_000}).encode()
    assert describe("gpu", "k", job, 12.0) == "queue gpu: embed (k) on worker w1, for 7 s"
    assert describe("gpu", "k", b"\x80pickled", 12.0) == "queue gpu: job k"
    assert describe("gpu", "k", b"[1]", 12.0) == "queue gpu: job k"
