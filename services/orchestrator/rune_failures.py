"""The failures of runes, by anvil: counted in a row, and what a rune waits before its next start."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.storage.postgres import Pool


async def record_failure(pool: Pool, anvil: str, rune: str, reason: str) -> int:
    """Count a failure in a row; failures more than ten minutes apart do not add up. Returns the count."""
    count: int = await pool.fetchval(
        "INSERT INTO rune_failure (anvil, rune, count, reason) VALUES ($1, $2, 1, $3) ON CONFLICT (anvil, rune) DO UPDATE SET "
        "count = CASE WHEN rune_failure.at < clock_timestamp() - interval '10 minutes' THEN 1 ELSE rune_failure.count + 1 END, "
        "at = clock_timestamp(), reason = excluded.reason RETURNING count",
        anvil,
        rune,
        reason,
    )
    return count


async def count_failures(pool: Pool, anvil: str, rune: str) -> int:
    """Count its latest failures in a row."""
    count: int | None = await pool.fetchval(
        "SELECT count FROM rune_failure WHERE anvil = $1 AND rune = $2 AND at > clock_timestamp() - interval '10 minutes'",
        anvil,
        rune,
    )
    return count or 0


async def may_start(pool: Pool, anvil: str, rune: str) -> bool:
    """False while the rune waits before its next restart: 1, 2, 4 … 60 s after each failure in a row."""
    return not await pool.fetchval(
        "SELECT EXISTS (SELECT 1 FROM rune_failure WHERE anvil = $1 AND rune = $2 "
        "AND at + least(power(2, count - 1), 60) * interval '1 second' > clock_timestamp())",
        anvil,
        rune,
    )
