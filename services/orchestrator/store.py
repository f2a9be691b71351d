"""All SQL of the orchestrator: the receipts of hand-overs and the rune's own failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from shared.postgres import Connection, Pool


async def begin(conn: Connection, anvil: str, fence: int, ritual: UUID, attempt: int) -> None:
    await conn.execute(
        "INSERT INTO hand_over (anvil, fence, ritual, attempt) VALUES ($1, $2, $3, $4)", anvil, fence, ritual, attempt
    )


async def suspend(conn: Connection, anvil: str, fence: int, memory_before: int) -> bool:
    """Note that inference goes down now. True the first time, so that it is announced once."""
    return bool(
        await conn.fetchval(
            "UPDATE hand_over SET suspended_at = clock_timestamp(), memory_before = $3 "
            "WHERE anvil = $1 AND fence = $2 AND suspended_at IS NULL RETURNING true",
            anvil,
            fence,
            memory_before,
        )
    )


async def evacuated(conn: Connection, anvil: str, fence: int, memory_after: int) -> None:
    await conn.execute(
        "UPDATE hand_over SET evacuated_at = clock_timestamp(), memory_after = $3 WHERE anvil = $1 AND fence = $2",
        anvil,
        fence,
        memory_after,
    )


async def released(conn: Connection, anvil: str, fence: int) -> None:
    await conn.execute(
        "UPDATE hand_over SET released_at = clock_timestamp() WHERE anvil = $1 AND fence = $2", anvil, fence
    )


async def restored(conn: Connection, anvil: str) -> list[dict[str, Any]]:
    """Close every released hand-over of this anvil and return it; inference answers again."""
    rows = await conn.fetch(
        "UPDATE hand_over SET restored_at = clock_timestamp(), "
        "seconds_without_inference = coalesce(extract(epoch FROM clock_timestamp() - suspended_at), 0)::float8 "
        "WHERE anvil = $1 AND released_at IS NOT NULL AND restored_at IS NULL "
        "RETURNING fence, ritual, attempt, released_at, evacuated_at, seconds_without_inference, "
        "(SELECT persona FROM ritual WHERE id = hand_over.ritual) AS persona",
        anvil,
    )
    return [dict(row) for row in rows]


async def memory_before(conn: Connection | Pool, anvil: str, fence: int) -> int:
    value = await conn.fetchval("SELECT memory_before FROM hand_over WHERE anvil = $1 AND fence = $2", anvil, fence)
    return int(value or 0)


async def began_at(conn: Connection | Pool, anvil: str, fence: int) -> Any:
    return await conn.fetchval("SELECT began_at FROM hand_over WHERE anvil = $1 AND fence = $2", anvil, fence)


async def rune_failed(conn: Connection | Pool, anvil: str, reason: str) -> int:
    """Count a failure of the rune; failures more than ten minutes apart do not add up. Returns the count."""
    count: int = await conn.fetchval(
        "INSERT INTO rune_failure (anvil, count, reason) VALUES ($1, 1, $2) ON CONFLICT (anvil) DO UPDATE SET "
        "count = CASE WHEN rune_failure.at < clock_timestamp() - interval '10 minutes' THEN 1 ELSE rune_failure.count + 1 END, "
        "at = clock_timestamp(), reason = excluded.reason RETURNING count",
        anvil,
        reason,
    )
    return count


async def rune_may_start(conn: Connection | Pool, anvil: str) -> bool:
    """False while the rune is kept from restarting too fast: 1, 2, 4 … 60 s after each failure in a row."""
    return not await conn.fetchval(
        "SELECT EXISTS (SELECT 1 FROM rune_failure WHERE anvil = $1 "
        "AND at + least(power(2, count - 1), 60) * interval '1 second' > clock_timestamp())",
        anvil,
    )
