"""Who holds SAQ's queues, and until when: dequeues under way, several holders, one that is killed, one that is refused."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from typing import Any

import asyncpg
import pytest
from saq.queue.postgres import PostgresQueue

from shared.drivers.queues.port import QueueError
from shared.drivers.queues.saq import SaqQueue
from tests.support.saq_queues import (
    CONFIG,
    DEADLINE_S,
    A,
    B,
    database,
    dequeues,
    house_of_saq,
    look,
    queue,
    rows,
    saq,
    until,
)

__all__ = ["database", "house_of_saq", "look", "queue", "saq"]  # the fixtures

HOLDER = """
import asyncio, os, signal, sys
import asyncpg
from shared.config.model import SaqConfig
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
    assert not await dequeues(look)
    await queue.release(A)
    await queue.release(A)
    assert await queue.held() == (B,)
    assert not await dequeues(look)
    await queue.release(B)
    assert await queue.held() == ()
    with pytest.raises(QueueError, match="call hold first"):
        await queue.drained()
    assert await dequeues(look)


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
            assert not await dequeues(look)
            await queue.release(A)
            assert await queue.held() == ()
            if ended == 0:
                break
            assert ended == -signal.SIGKILL
            killed[call] = last
    print(f"\nkilled after each of {killed} statements")
    assert killed["hold"] >= 5 and killed["release"] >= 2
    assert (await rows(look))[0][1:] == before
    assert await dequeues(look)


def _run_holder(database: str, call: str, last: int) -> int:
    return subprocess.run([sys.executable, "-c", HOLDER, database, call, str(last)], timeout=60, check=False).returncode


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
