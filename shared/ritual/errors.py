"""SQL of the errors that a service met while it worked on a ritual: counted in a row, with the time of the next try."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from shared.ritual.ledger import Ritual
    from shared.storage.postgres import Pool

LONGEST_DELAY_S = 60.0
FORGOTTEN_AFTER_S = 600.0  # errors further apart than that do not add up


async def record_error(pool: Pool, ritual: Ritual, owner: str, error: str, first_delay_s: float) -> int:
    """Count an error; returns how many there were in a row. The count starts over once the ritual has moved."""
    count: int = await pool.fetchval(
        """
        INSERT INTO ritual_error AS e (ritual, owner, version, count, error, retry_at)
        VALUES ($1, $2, $3, 1, $4, clock_timestamp() + make_interval(secs => $5))
        ON CONFLICT (ritual, owner) DO UPDATE SET
            count = CASE WHEN e.version = $3 AND e.last_at > clock_timestamp() - make_interval(secs => $7)
                         THEN e.count + 1 ELSE 1 END,
            first_at = CASE WHEN e.version = $3 THEN e.first_at ELSE clock_timestamp() END,
            version = $3, error = $4, last_at = clock_timestamp(),
            retry_at = clock_timestamp() + make_interval(secs => least($5 * power(2, least(e.count, 30)), $6))
        RETURNING count
        """,
        ritual.id,
        owner,
        ritual.version,
        error,
        first_delay_s,
        LONGEST_DELAY_S,
        FORGOTTEN_AFTER_S,
    )
    return count


async def list_tried(pool: Pool, owner: str) -> dict[UUID, bool]:
    """The open rituals that met errors of this service: whether the next try of each is due."""
    rows = await pool.fetch(
        "SELECT ritual, retry_at <= clock_timestamp() AS due FROM ritual_error e JOIN ritual r ON r.id = e.ritual "
        "WHERE e.owner = $1 AND r.ended_at IS NULL",
        owner,
    )
    return {row["ritual"]: row["due"] for row in rows}


async def list_failing(pool: Pool, owner: str, least: int) -> list[tuple[UUID, int, str]]:
    """The open rituals that cannot go on: those with `least` errors of this service in a row, their count and the last."""
    rows = await pool.fetch(
        "SELECT ritual, count, error FROM ritual_error e JOIN ritual r ON r.id = e.ritual WHERE e.owner = $1 "
        "AND count >= $2 AND r.ended_at IS NULL AND e.version = r.version "
        "AND last_at > clock_timestamp() - make_interval(secs => $3) ORDER BY last_at",
        owner,
        least,
        FORGOTTEN_AFTER_S,
    )
    return [(row["ritual"], row["count"], row["error"]) for row in rows]


async def clear_errors(pool: Pool, ritual: UUID, owner: str) -> None:
    await pool.execute("DELETE FROM ritual_error WHERE ritual = $1 AND owner = $2", ritual, owner)
