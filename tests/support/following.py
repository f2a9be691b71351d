"""A ritual seen from outside: what state it is in, and held where a test wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg

from shared.contracts.ritual import State
from tests.support.fakes.holding import held
from tests.support.running import Stack

# A stage whose work is short is held open by a lock on a table that its work needs; a job waits by itself.
LOCKS = {
    State.INTENDED: "vectors.karma IN ACCESS EXCLUSIVE MODE",
    State.HARVESTED: "orchestrator.hand_over IN ACCESS EXCLUSIVE MODE",
    State.VERIFIED: "registry.version IN EXCLUSIVE MODE",  # the stage before reads it, for the champion
    State.REGISTERED: "registry.alias IN ACCESS EXCLUSIVE MODE",
}
JOBS = {State.EVACUATED: "trainer", State.FORGED: "evaluator"}


@asynccontextmanager
async def holding(stack: Stack, stage: State) -> AsyncIterator[None]:
    """Nothing gets out of `stage` meanwhile."""
    if role := JOBS.get(stage):
        held(role).touch()
        try:
            yield
        finally:
            held(role).unlink()
        return
    task = asyncio.create_task(_lock_for_ever(stack, LOCKS[stage]))
    await asyncio.sleep(0.1)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _lock_for_ever(stack: Stack, lock: str) -> None:
    """Keep a table locked, also after the server was killed: a new lock is taken before anyone else is served."""
    while True:
        try:
            conn = await stack.connect()
        except (OSError, asyncpg.PostgresError):
            await asyncio.sleep(0)
            continue
        try:
            await conn.execute(f"BEGIN; LOCK TABLE {lock}")
            while True:
                await conn.execute("SELECT 1")
                await asyncio.sleep(0.05)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await asyncio.sleep(0)
        finally:
            # The end of the connection is the end of the lock.
            conn.terminate()


async def is_in(stack: Stack, ritual: UUID | None, state: State) -> bool:
    """Whether the ritual is in `state`; an end without an adapter fails the test with what was stated."""
    try:
        conn = await stack.connect()
    except (OSError, asyncpg.PostgresError):
        return False
    try:
        found = await conn.fetchval("SELECT state FROM ritual WHERE id = $1", ritual)
        if found in ("failed", "refused", "banished"):
            rows = await conn.fetch(
                "SELECT subject, body FROM ritual_fact WHERE ritual = $1 ORDER BY stated_at", ritual
            )
            raise AssertionError(str([tuple(row) for row in rows])[-1500:])
        return bool(found == state)
    finally:
        await conn.close()
