"""SQL of the verifier: the looks at a persona's sealed holdout, and its champion.

Each verdict on the same sessions is one more chance to be right by luck. A look is recorded before its verdict is known, so
that one that is lost with a crash counts too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

if TYPE_CHECKING:
    from shared.storage.postgres import Connection, Pool


@dataclass(frozen=True)
class ChampionVersion:
    """The version that is a persona's champion; `fault` is why it does not serve."""

    name: str
    adapter: str
    base: str
    fault: str | None


class Looked(NamedTuple):
    """What earlier verdicts made of the sessions of a holdout.

    `histories`: of the sessions that are left, whether each of their verdicts showed learning, once for all that share it.
    """

    histories: frozenset[tuple[bool, ...]]
    worn: frozenset[str]


async def record_look(pool: Pool, ritual: UUID, persona: str, sessions: Iterable[str], most: int) -> Looked:
    """Record that a ritual looks at these sessions, once, and read their earlier looks.

    Those that carried `most` verdicts are worn: they carry no further one.
    """
    names = sorted(set(sessions))
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"looks at the holdout of {persona}"
        )
        number = await conn.fetchval("SELECT number FROM look WHERE ritual = $1", ritual)
        earlier = await _read_histories(conn, persona, names, number)
        worn = frozenset(name for name, history in earlier.items() if len(history) >= most)
        left = [name for name in names if name not in worn]
        await conn.execute(
            "INSERT INTO look (ritual, persona, sessions) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            ritual,
            persona,
            left,
        )
    return Looked(frozenset(earlier.get(name, ()) for name in left), worn)


async def record_outcome(pool: Pool, ritual: UUID, learned: bool) -> None:
    """Record whether the verdict of a ritual showed learning: later looks at its sessions keep its level then."""
    await pool.execute("UPDATE look SET learned = $2 WHERE ritual = $1", ritual, learned)


async def get_champion(pool: Pool, persona: str) -> ChampionVersion | None:
    row = await pool.fetchrow("SELECT name, adapter, base, fault FROM public.champion WHERE persona = $1", persona)
    return ChampionVersion(**row) if row else None


async def _read_histories(
    conn: Connection, persona: str, sessions: list[str], before: int | None
) -> dict[str, tuple[bool, ...]]:
    """The earlier verdicts of each session that had any: whether they showed learning, oldest first."""
    rows = await conn.fetch(
        "SELECT session, array_agg(coalesce(learned, false) ORDER BY number) AS history "
        "FROM look, unnest(sessions) AS session "
        "WHERE persona = $1 AND session = ANY ($2::text[]) AND ($3::bigint IS NULL OR number < $3) GROUP BY session",
        persona,
        sessions,
        before,
    )
    return {row["session"]: tuple(row["history"]) for row in rows}
