"""Bring the table of readings up to what karma says now: only what changed since, in batches, in several processes.

Each process reads its share of the records from the database by itself, on one common snapshot, and writes what it read:
no record passes between processes. Batches are committed one by one, so that an interrupted harvest goes on where it was.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from services.harvester.golden.join import CHECKS, GOLDEN, MESSAGES, TOOLS
from services.harvester.reading.reader import COLUMNS, Reader, Stored
from services.harvester.wide import open_wide_pool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from services.harvester.redaction.policy import RedactionPolicy
    from shared.postgres import Connection, Pool

BATCH = 1000
WORTH_PROCESSES = 20_000  # fewer records are read in a thread sooner than a process starts
LOOK_S = 0.5

_CHANGED = """
    LEFT JOIN harvester.reading r ON r.karma = k.id AND r.touched = k.touched AND r.policy = $3
    WHERE k.persona = $1 AND k.touched >= $2 AND r.karma IS NULL
"""
_STORED = f"""
    SELECT k.id, k.persona, k.touched, k.created_at, k.status, k.session, k.parent, k.source, k.licence, k.kind, k.feedback,
        $4 = ANY (k.purposes), {MESSAGES}::text, {TOOLS}::text, {CHECKS}::text
    FROM vectors.karma k {GOLDEN}
"""
_PART = " AND ($5 = 1 OR abs(hashtext(k.id)::bigint) % $5 = $6)"


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


@dataclass(frozen=True)
class Share:
    """Which records one process reads: part `part` of `parts` of what changed since, as the snapshot shows it."""

    persona: str
    since: int
    policy: str
    purpose: str
    fresh: bool  #: nothing of the persona was read before
    part: int = 0
    parts: int = 1


async def catch_up(
    pool: Pool, url: str, persona: str, way: Way, processes: int, heard: Callable[[int, int], Any]
) -> Reader:
    """Read what changed; `heard` is told how many of how many. Returns the reader, for what is written of the records."""
    reader = await asyncio.to_thread(way.reader)
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read"):
        mark = await conn.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())")
        since = await conn.fetchval(
            "SELECT touched FROM reading_mark WHERE persona = $1 AND policy = $2", persona, reader.policy
        )
        fresh = not await conn.fetchval("SELECT EXISTS (SELECT FROM reading WHERE persona = $1)", persona)
        share = Share(persona, since or 0, reader.policy, way.purpose, fresh)
        total = await conn.fetchval(
            f"SELECT count(*) FROM vectors.karma k {_CHANGED}", persona, share.since, share.policy
        )
        if total >= WORTH_PROCESSES and processes > 1:
            await _in_processes(conn, url, way, share, processes, lambda done: heard(done, total))
        elif total:

            async def read(records: list[Stored]) -> list[tuple[Any, ...]]:
                return await asyncio.to_thread(reader.read, records)

            await _read_share(conn, pool, share, read, lambda done: heard(done, total))
    await _remember_mark(pool, persona, reader.policy, mark)
    return reader


async def _read_share(
    conn: Connection,
    pool: Pool,
    share: Share,
    read: Callable[[list[Stored]], Awaitable[list[tuple[Any, ...]]]],
    heard: Callable[[int], Any],
) -> None:
    """Read a share through `conn`, which sees the snapshot, and write through the pool."""
    cursor = await conn.cursor(
        _STORED + _CHANGED + _PART, share.persona, share.since, share.policy, share.purpose, share.parts, share.part
    )
    done = 0
    while rows := await cursor.fetch(BATCH):
        await _keep(pool, share, await read([Stored(*row) for row in rows]))
        done += len(rows)
        heard(done)


async def _keep(pool: Pool, share: Share, rows: list[tuple[Any, ...]]) -> None:
    async with pool.acquire() as conn, conn.transaction():
        if not share.fresh:
            ids = [row[0] for row in rows]
            await conn.execute("DELETE FROM reading WHERE karma = ANY ($1::text[])", ids)
            await conn.execute(
                "DELETE FROM near_duplicate WHERE karma = ANY ($1::text[]) OR other = ANY ($1::text[])", ids
            )
        await conn.copy_records_to_table(
            "reading", records=[(*row, share.policy) for row in rows], columns=(*COLUMNS, "policy")
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


async def _in_processes(
    conn: Connection, url: str, way: Way, share: Share, processes: int, heard: Callable[[int], Any]
) -> None:
    """Read in several processes; a process that fails fails all."""
    snapshot = await conn.fetchval("SELECT pg_export_snapshot()")
    context = get_context("spawn")
    done = context.Value("q", 0)
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(way, done, os.getpid())) as executor:
        parts = {
            loop.run_in_executor(executor, _read_part, url, snapshot, share, part, processes)
            for part in range(processes)
        }
        while parts:
            finished, parts = await asyncio.wait(parts, timeout=LOOK_S, return_when=asyncio.FIRST_EXCEPTION)
            heard(done.value)
            for part in finished:
                part.result()


_reader: Reader | None = None
_done: Any = None
_parent = 0


def _begin(way: Way, done: Any, parent: int) -> None:
    global _reader, _done, _parent
    _reader, _done, _parent = way.reader(), done, parent
    os.nice(5)  # the service answers its health checks meanwhile


def _read_part(url: str, snapshot: str, share: Share, part: int, parts: int) -> None:
    asyncio.run(_read_at(url, snapshot, replace(share, part=part, parts=parts)))


async def _read_at(url: str, snapshot: str, share: Share) -> None:
    reader = _reader
    assert reader is not None, "the process was not begun"

    async def read(records: list[Stored]) -> list[tuple[Any, ...]]:
        if os.getppid() != _parent:
            raise SystemExit("the harvester is gone")
        return reader.read(records)

    counted = 0

    def heard(done: int) -> None:
        nonlocal counted
        with _done.get_lock():
            _done.value += done - counted
        counted = done

    pool = await open_wide_pool(url)
    try:
        async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            await conn.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
            await _read_share(conn, pool, share, read, heard)
    finally:
        await pool.close()
