"""SAQ's own tables in a schema of the real PostgreSQL, a queue in them, and what a test looks at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
import pytest
from saq.queue.postgres import PostgresQueue

from shared.config.model import SaqConfig
from shared.config.settings import Settings
from shared.drivers.queues.saq import SaqQueue

DEADLINE_S = 60
A, B = "anvil0/17", "anvil1/3"
CONFIG = SaqConfig.model_validate({"driver": "saq", "names": ("gpu",), "grace_s": 20})


@pytest.fixture
def database(settings: Settings) -> str:
    """The URL of the database for SAQ's workers."""
    return settings.database_url("worker")


@pytest.fixture
async def house_of_saq(
    database: str, settings: Settings
) -> AsyncIterator[tuple[PostgresQueue, asyncpg.Connection[Any]]]:
    """The schema `queue` with SAQ's own tables, all empty; a queue to put jobs in, and a connection to look."""
    look = await asyncpg.connect(settings.database_url("bootstrap"))
    await look.execute(
        "DROP SCHEMA IF EXISTS queue CASCADE; CREATE SCHEMA queue; GRANT USAGE, CREATE ON SCHEMA queue TO soulforge_worker"
    )
    await look.execute(
        "CREATE TABLE queue.ran (id int GENERATED ALWAYS AS IDENTITY, job text, attempt int, started timestamptz, "
        "ended timestamptz); GRANT SELECT, INSERT, UPDATE ON queue.ran TO soulforge_worker"
    )
    saq = PostgresQueue.from_url(f"{database}&options=-csearch_path%3Dqueue", name="gpu", min_size=1, max_size=4)
    await saq.connect()
    yield saq, look
    await saq.disconnect()
    await look.execute("DROP SCHEMA queue CASCADE; CREATE SCHEMA queue")
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


async def until(happens: Callable[[], Awaitable[bool]], log: Path | None = None) -> None:
    deadline = monotonic() + DEADLINE_S
    while not await happens():
        assert monotonic() < deadline, log.read_text()[-2000:] if log and log.exists() else "it did not happen"
        await asyncio.sleep(0.02)


async def rows(look: asyncpg.Connection[Any]) -> list[tuple[Any, ...]]:
    """All that SAQ keeps of its jobs, and where each lies."""
    return [tuple(row) for row in await look.fetch("SELECT ctid::text, * FROM queue.saq_jobs ORDER BY key")]


async def dequeues(look: asyncpg.Connection[Any]) -> bool:
    return bool(await look.fetchval("UPDATE queue.saq_jobs SET status = 'active' RETURNING true"))
