"""Bring the table of readings up to what karma says now: only what changed since, in batches, in several processes.

Each process reads its share of the records from the database by itself, on one common snapshot, and writes what it read:
no record passes between processes. Batches are committed one by one, so that an interrupted harvest goes on where it was.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from services.harvester.copied import text
from services.harvester.copying import copy_in, copy_out
from services.harvester.golden.join import CHECKS, GOLDEN, MESSAGES, TOOLS
from services.harvester.reading.reader import COLUMNS, Reader

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.harvester.reading.way import Way
    from services.harvester.workers import Workers
    from shared.storage.postgres import Connection, Pool

BATCH = 2000  # records; COPY into a table costs half as much for each as with 500
STRETCHES = 4  # of the table a process reads in turn, so that none is left with the work while the others wait

_CHANGED = """
    LEFT JOIN harvester.reading r ON r.karma = k.id AND r.touched = k.touched AND r.policy = $3
    WHERE k.persona = $1 AND k.touched >= $2 AND r.karma IS NULL
"""
# Where nothing was read, nothing is to be joined: what the other processes write meanwhile is not seen, but passed over.
_ALL = " WHERE k.persona = $1 AND k.touched >= $2 AND $3::text IS NOT NULL"
_STORED = f"""
    SELECT {MESSAGES}, {CHECKS}, {TOOLS}, k.id, k.session, k.parent, k.feedback, k.source, k.kind,
        k.persona, k.touched, k.created_at, k.status, k.licence, $4 = ANY (k.purposes)
    FROM vectors.karma k {GOLDEN}
"""
_PART = " AND k.ctid >= format('(%s,0)', $5::bigint)::tid AND k.ctid < format('(%s,0)', $6::bigint)::tid"
_PAGES = "SELECT pg_relation_size('vectors.karma') / current_setting('block_size')::int"
_BEYOND = 1 << 31  # more pages than a table has


@dataclass(frozen=True)
class Share:
    """Which records are read: what changed since, as the snapshot shows it, where it lies in these pages of the table."""

    persona: str
    since: int
    policy: str
    purpose: str
    fresh: bool  #: nothing of the persona was read before
    snapshot: str = ""
    pages: tuple[int, int] = (0, _BEYOND)

    @property
    def changed(self) -> str:
        return _ALL if self.fresh else _CHANGED


async def catch_up(
    pool: Pool, persona: str, way: Way, workers: Workers | None, heard: Callable[[int, int], Any]
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
            f"SELECT count(*) FROM vectors.karma k {share.changed}", persona, share.since, share.policy
        )
        if workers and workers.worth(total):
            await _in_processes(conn, workers, share, lambda done: heard(done, total))
        elif total:
            await _alone(conn, pool, share, reader, lambda done: heard(done, total))
    await _forget_gone(pool, persona, mark)
    await _remember_mark(pool, persona, reader.policy, mark)
    return reader


async def _alone(conn: Connection, pool: Pool, share: Share, reader: Reader, heard: Callable[[int], Any]) -> None:
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        heard(done)

    async def read(records: list[bytes]) -> list[bytes]:
        return await asyncio.to_thread(reader.read, records)

    await _read_share(conn, pool, share, read, count)


async def _in_processes(conn: Connection, workers: Workers, share: Share, heard: Callable[[int], Any]) -> None:
    snapshot = await conn.fetchval("SELECT pg_export_snapshot()")
    stretches = _stretches(await conn.fetchval(_PAGES), workers.processes * STRETCHES)
    await workers.each(_read_at, [replace(share, snapshot=snapshot, pages=pages) for pages in stretches], heard)


def _stretches(pages: int, parts: int) -> list[tuple[int, int]]:
    """Pages in `parts` equal stretches; the last one is open, since the table may grow meanwhile."""
    bounds = [pages * part // parts for part in range(parts)]
    return list(pairwise([*bounds, _BEYOND]))


async def _read_at(reader: Reader, pool: Pool, count: Callable[[int], Any], share: Share) -> None:
    async def read(records: list[bytes]) -> list[bytes]:
        return reader.read(records)

    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        await conn.execute(f"SET TRANSACTION SNAPSHOT '{share.snapshot}'")
        await _read_share(conn, pool, share, read, count)


async def _read_share(
    conn: Connection,
    pool: Pool,
    share: Share,
    read: Callable[[list[bytes]], Awaitable[list[bytes]]],
    count: Callable[[int], Any],
) -> None:
    """Read a share through `conn`, which sees the snapshot, and write through the pool."""

    async def take(records: list[bytes]) -> None:
        await _keep(pool, share, await read(records))
        count(len(records))

    query = _STORED + share.changed + _PART
    values = (share.persona, share.since, share.policy, share.purpose, *share.pages)
    await copy_out(conn, query, *values, batch=BATCH, take=take)


async def _keep(pool: Pool, share: Share, rows: list[bytes]) -> None:
    async with pool.acquire() as conn, conn.transaction():
        if not share.fresh:
            ids = [text(row.split(b"\t", 1)[0]) for row in rows]
            await conn.execute("DELETE FROM reading WHERE karma = ANY ($1::text[])", ids)
            await conn.execute(
                "DELETE FROM near_duplicate WHERE karma = ANY ($1::text[]) OR other = ANY ($1::text[])", ids
            )
        await copy_in(conn, "reading", COLUMNS, rows)


async def _forget_gone(pool: Pool, persona: str, mark: int) -> None:
    """Drop what was read of records that were deleted meanwhile; who was gone before this reading began is done with."""
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute(
            "DELETE FROM reading r USING gone g WHERE g.persona = $1 AND r.karma = g.karma AND r.persona = g.persona "
            "AND NOT EXISTS (SELECT FROM vectors.karma k WHERE k.id = g.karma AND k.persona = g.persona)",
            persona,
        )
        await conn.execute("DELETE FROM gone WHERE persona = $1 AND gone_in < $2", persona, mark)


async def _remember_mark(pool: Pool, persona: str, policy: str, mark: int) -> None:
    """Everything that transactions before `mark` wrote is read."""
    await pool.execute(
        "INSERT INTO reading_mark (persona, policy, touched) VALUES ($1, $2, $3) ON CONFLICT (persona) "
        "DO UPDATE SET policy = excluded.policy, touched = excluded.touched",
        persona,
        policy,
        mark,
    )
