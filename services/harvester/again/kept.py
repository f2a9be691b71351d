"""What is kept of a persona's last decision: its tables, up to where they hold, and under which key.

A decision is kept whole or not at all: the row that says so is written when everything else is, and what is changed later
is changed in one transaction with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING

import orjson

from services.harvester import store
from services.harvester.statements import KEPT, Step

if TYPE_CHECKING:
    from services.harvester.manifest.write import Job
    from shared.storage.postgres import Connection, Pool

FORMAT = 1  # raised when decisions are made otherwise than before


@dataclass(frozen=True)
class Mark:
    """Up to where a decision holds; see `kept_decision` in the migrations."""

    key: str
    read_in: int
    records: int
    sealed: int
    sealed_sum: Decimal
    sealed_whole: bool
    revoked: int


@dataclass(frozen=True)
class Decision:
    """Where the decisions stand, and what is to be done about them."""

    table: str
    anew: bool  #: about all records; its segments are yet to be found and counted
    mark: Mark | None = None  #: to keep it by, once that is done
    places: list[int] | None = None  #: segments beside which all that is held out is sealed; None: no such are known


def key(job: Job, salt: str) -> str | None:
    """Names everything but the karma that a decision depends on; None of one that is not worth keeping.

    Those are asked for once: at an earlier mark, or by a query. A budget of tokens moves with every record.
    """
    intent = job.order.intent
    if job.order.wanted is not None or intent.query or intent.until or job.order.policy.lengths.budget:
        return None
    asked = intent.model_dump(mode="json", include={"kinds", "since"})
    said = [FORMAT, salt, job.order.persona, job.order.policy.digest(), job.reader.policy, asked]
    return sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


async def current(conn: Connection, key: str, records: int, sealed: tuple[int, Decimal]) -> Mark:
    """The mark of a decision that is made in this transaction, while this is sealed."""
    row = await conn.fetchrow(
        "SELECT pg_snapshot_xmin(pg_current_snapshot()) AS read_in, (SELECT count(*) FROM revocation) AS revoked"
    )
    assert row
    return Mark(key, row["read_in"], records, *sealed, False, row["revoked"])


async def known(conn: Connection, persona: str, key: str, table: str) -> Mark | None:
    """The mark of the kept decision, where that holds for this key, its tables stand, and sealed is what it knows as sealed."""
    names = Step(conn, table).names
    row = await conn.fetchrow(
        "SELECT key, read_in, records, sealed, sealed_sum, sealed_whole, revoked FROM kept_decision "
        "WHERE persona = $1 AND key = $2 AND read_in <= pg_snapshot_xmin(pg_current_snapshot()) "
        "AND revoked <= (SELECT count(*) FROM revocation) "
        "AND NOT EXISTS (SELECT FROM unnest($3::text[]) AS name WHERE to_regclass(name) IS NULL)",
        persona,
        key,
        [names[name] for name in ("decided", *KEPT)],
    )
    if row is None or (row["sealed"], row["sealed_sum"]) != await sealed(conn, persona):
        return None
    return Mark(**row)


async def sealed(conn: Connection, persona: str) -> tuple[int, Decimal]:
    """How many records are sealed, and a number that is another for others."""
    row = await conn.fetchrow(
        "SELECT count(*) AS records, coalesce(sum(hashtextextended(karma, 0)), 0) AS total FROM sealed WHERE persona = $1",
        persona,
    )
    return (row["records"], row["total"]) if row else (0, Decimal(0))


async def forget(conn: Connection, persona: str) -> None:
    await conn.execute("DELETE FROM kept_decision WHERE persona = $1", persona)


async def write(conn: Connection | Pool, persona: str, mark: Mark) -> None:
    await conn.execute(
        "INSERT INTO kept_decision (persona, key, read_in, records, sealed, sealed_sum, sealed_whole, revoked) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (persona) DO UPDATE SET key = excluded.key, "
        "read_in = excluded.read_in, records = excluded.records, sealed = excluded.sealed, "
        "sealed_sum = excluded.sealed_sum, sealed_whole = excluded.sealed_whole, revoked = excluded.revoked",
        persona,
        *vars(mark).values(),
    )


async def index_records(conn: Connection, table: str) -> None:
    """What looks for few of its records is given an index, beside `index_others`, which is as much work."""
    async with conn.transaction():
        await conn.execute(_ALONE)
        await Step(conn, table).run("CREATE UNIQUE INDEX ON {decided} (karma)")


async def index_others(conn: Connection, table: str) -> None:
    step = Step(conn, table)
    async with conn.transaction():
        await conn.execute(_ALONE)
        await step.run("CREATE INDEX ON {decided} (parent) WHERE parent IS NOT NULL")
        await store.index_places(conn, table)
        await step.run("CREATE UNIQUE INDEX ON {tally} (kind, name)")
        await step.run("CREATE INDEX ON {cut} (created_at, karma)")


_ALONE = "SET LOCAL max_parallel_maintenance_workers = 0"  # two are at work


async def keep(pool: Pool, persona: str, decision: Decision) -> None:
    """From here on it is known."""
    if decision.mark is None:
        return
    async with pool.acquire() as conn:
        # Not beside the indices: it would wait for their locks, for as long as they take.
        await Step(conn, decision.table).run("ANALYZE {decided} (karma, text, session, parent, place, side, reason)")
        await write(conn, persona, decision.mark)


async def seal(pool: Pool, persona: str, decision: Decision) -> None:
    """What was placed in the holdout stays out of every later training."""
    async with pool.acquire() as conn, conn.transaction():
        await store.seal(conn, persona, decision.table, decision.places)
        if decision.mark is not None:
            records, total = await sealed(conn, persona)
            await write(conn, persona, replace(decision.mark, sealed=records, sealed_sum=total, sealed_whole=True))
