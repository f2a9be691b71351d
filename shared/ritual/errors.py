"""SQL of the errors that a service met while it worked on a ritual: counted in a row, with the time of the next try."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from shared.ritual.ledger import Ritual
    from shared.storage.postgres import Pool

LONGEST_DELAY_S = 60.0
FORGOTTEN_AFTER_S = 600.0  # errors further apart than that do not add up


@dataclass(frozen=True, slots=True)
class Row:
    """Errors in a row: how many, and since how many seconds."""

    count: int
    since_s: float


# Errors before the ritual's latest move, or long ago, do not count any more.
_IN_A_ROW = "e.version = $3 AND e.last_at > clock_timestamp() - make_interval(secs => $7)"


async def record_error(pool: Pool, ritual: Ritual, owner: str, error: str, first_delay_s: float) -> Row:
    """Count an error; returns the errors in a row. They start over once the ritual has moved."""
    [row] = await pool.fetch(
        f"""
        INSERT INTO ritual_error AS e (ritual, owner, version, count, error, retry_at)
        VALUES ($1, $2, $3, 1, $4, clock_timestamp() + make_interval(secs => $5))
        ON CONFLICT (ritual, owner) DO UPDATE SET
            count = CASE WHEN {_IN_A_ROW} THEN e.count + 1 ELSE 1 END,
            first_at = CASE WHEN {_IN_A_ROW} THEN e.first_at ELSE clock_timestamp() END,
            retry_at = clock_timestamp() + make_interval(
                secs => CASE WHEN {_IN_A_ROW} THEN least($5 * power(2, least(e.count, 30)), $6) ELSE $5 END),
            version = $3, error = $4, last_at = clock_timestamp()
        RETURNING count, extract(epoch FROM last_at - first_at)::float8 AS since_s
        """,
        ritual.id,
        owner,
        ritual.version,
        error,
        first_delay_s,
        LONGEST_DELAY_S,
        FORGOTTEN_AFTER_S,
    )
    return Row(**row)


async def list_tried(pool: Pool, owner: str) -> dict[UUID, bool]:
    """The open rituals that met errors of this service: whether the next try of each is due."""
    rows = await pool.fetch(
        "SELECT ritual, retry_at <= clock_timestamp() OR e.version <> r.version AS due "
        "FROM ritual_error e JOIN ritual r ON r.id = e.ritual "
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


async def get_error(pool: Pool, ritual: Ritual, owner: str) -> str | None:
    """The latest error of a service since the ritual last moved; None where it met none."""
    error: str | None = await pool.fetchval(
        "SELECT error FROM ritual_error WHERE ritual = $1 AND owner = $2 AND version = $3",
        ritual.id,
        owner,
        ritual.version,
    )
    return error


_OF_ENDED = (
    "FROM public.ritual_error WHERE ritual IN "
    "(SELECT id FROM public.ritual WHERE ended_at < clock_timestamp() - $1::interval)"
)


async def count_errors_of_ended(pool: Pool, age: timedelta) -> int:
    """Count the errors of rituals that ended longer than `age` ago."""
    count: int = await pool.fetchval(f"SELECT count(*) {_OF_ENDED}", age)
    return count


async def delete_errors_of_ended(pool: Pool, age: timedelta) -> int:
    """Delete the errors that `count_errors_of_ended` counts; returns how many."""
    return len(await pool.fetch(f"DELETE {_OF_ENDED} RETURNING ritual", age))
