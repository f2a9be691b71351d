"""Bring the table of readings up to what karma says now: only what changed since, in other processes, in batches.

Readings are committed batch by batch, so that an interrupted harvest goes on where it was. Memory is that of the batches
in flight, whatever the size of the karma.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from services.harvester.reading.reader import COLUMNS, Reader, Stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from services.harvester.redaction.policy import RedactionPolicy
    from shared.postgres import Connection, Pool

BATCH = 1000
IN_FLIGHT = 4
WORTH_PROCESSES = 5000  # fewer records are read in a thread sooner than a process starts

_CHANGED = """
    FROM vectors.karma k
    LEFT JOIN harvester.golden_path g ON g.karma = k.id AND g.trace_id = k.trace_id AND g.messages IS NOT NULL
    LEFT JOIN harvester.reading r ON r.karma = k.id AND r.touched = k.touched AND r.policy = $3
    WHERE k.persona = $1 AND k.touched >= $2 AND r.karma IS NULL
"""
_STORED = """
    SELECT k.id, k.persona, k.touched, k.created_at, k.status, k.session, k.parent, k.source, k.licence, k.kind, k.feedback,
        $4 = ANY (k.purposes), coalesce(g.messages, k.messages)::text,
        (CASE WHEN g.messages IS NULL THEN k.tools ELSE g.tools END)::text, (k.outcome -> 'checks')::text
"""


@dataclass(frozen=True)
class Way:
    """How records are read, as it passes to another process."""

    redaction: RedactionPolicy
    split_key: str
    benchmarks: Path
    purpose: str
    with_bands: bool

    def reader(self) -> Reader:
        return Reader(self.redaction, self.split_key, self.benchmarks, self.with_bands)


async def catch_up(pool: Pool, persona: str, way: Way, processes: int, heard: Callable[[int, int], Any]) -> Reader:
    """Read what changed; `heard` is told how many of how many. Returns the reader, for what is written of the records."""
    reader = await asyncio.to_thread(way.reader)
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        mark = await conn.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())")
        since = await conn.fetchval(
            "SELECT touched FROM reading_mark WHERE persona = $1 AND policy = $2", persona, reader.policy
        )
        total = await conn.fetchval(f"SELECT count(*) {_CHANGED}", persona, since or 0, reader.policy)
        done = 0
        if total:
            with _executor(way, reader, processes if total >= WORTH_PROCESSES else 0) as executor:
                records = _batches(conn, persona, since or 0, reader.policy, way.purpose)
                async for rows in _read(executor, records):
                    await _keep(pool, reader.policy, rows)
                    done += len(rows)
                    heard(done, total)
    await _remember_mark(pool, persona, reader.policy, mark)
    return reader


async def _batches(
    conn: Connection, persona: str, since: int, policy: str, purpose: str
) -> AsyncIterator[list[Stored]]:
    cursor = await conn.cursor(_STORED + _CHANGED, persona, since, policy, purpose)
    while rows := await cursor.fetch(BATCH):
        yield [Stored(*row) for row in rows]


async def _read(executor: Executor, batches: AsyncIterator[list[Stored]]) -> AsyncIterator[list[tuple[Any, ...]]]:
    """The readings of each batch in turn, a few batches ahead."""
    loop = asyncio.get_running_loop()
    waiting: deque[asyncio.Future[list[tuple[Any, ...]]]] = deque()
    async for batch in batches:
        waiting.append(loop.run_in_executor(executor, _of_this_process, batch))
        if len(waiting) >= IN_FLIGHT:
            yield await waiting.popleft()
    while waiting:
        yield await waiting.popleft()


async def _keep(pool: Pool, policy: str, rows: list[tuple[Any, ...]]) -> None:
    ids = [row[0] for row in rows]
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("DELETE FROM reading WHERE karma = ANY ($1::text[])", ids)
        await conn.execute("DELETE FROM near_duplicate WHERE karma = ANY ($1::text[]) OR other = ANY ($1::text[])", ids)
        await conn.copy_records_to_table(
            "reading", records=[(*row, policy) for row in rows], columns=(*COLUMNS, "policy")
        )


async def _remember_mark(pool: Pool, persona: str, policy: str, mark: int) -> None:
    """Everything that transactions before `mark` wrote is read."""
    await pool.execute(
        "INSERT INTO reading_mark (persona, policy, touched) VALUES ($1, $2, $3) ON CONFLICT (persona) "
        "DO UPDATE SET policy = excluded.policy, touched = excluded.touched",
        persona,
        policy,
        mark,
    )


@contextmanager
def _executor(way: Way, reader: Reader, processes: int) -> Iterator[Executor]:
    global _reader
    if processes:
        with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_begin, initargs=(way,)) as executor:
            yield executor
        return
    _reader = reader
    with ThreadPoolExecutor(1) as executor:
        yield executor


_reader: Reader | None = None


def _begin(way: Way) -> None:
    global _reader
    _reader = way.reader()


def _of_this_process(records: list[Stored]) -> list[tuple[Any, ...]]:
    assert _reader is not None, "the process was not begun"
    return _reader.read(records)
