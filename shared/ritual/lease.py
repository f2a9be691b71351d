"""The lease of an anvil: one row, a fencing number that only grows, and a life on the database's clock, which may step.

An expired lease is not free: first its holder is proven gone (services/orchestrator), then it is released.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from shared.storage.postgres import Connection, Pool


@dataclass(frozen=True)
class Lease:
    """The lease of a held anvil. `live` is false once it expired; the holder may still be running."""

    anvil: str
    ritual: UUID
    attempt: int
    fence: int
    live: bool


@dataclass(frozen=True)
class Renewal:
    """The result of a renewal: whether the lease is still held, and whether its ritual is to be cancelled, or is paused."""

    held: bool
    cancelled: bool
    paused: bool


_HELD = "SELECT anvil, ritual, attempt, fence, is_live(lease) AS live FROM lease"


async def acquire(conn: Connection | Pool, anvil: str, ritual: UUID, attempt: int, ttl_s: float) -> int | None:
    """Take a free anvil and return the new fence; None while it is held, live or expired."""
    await conn.execute("INSERT INTO lease (anvil) VALUES ($1) ON CONFLICT DO NOTHING", anvil)
    fence: int | None = await conn.fetchval(
        "UPDATE lease SET ritual = $2, attempt = $3, fence = fence + 1, acquired_at = clock_timestamp(), "
        "renewed_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => $4) "
        "WHERE anvil = $1 AND ritual IS NULL RETURNING fence",
        anvil,
        ritual,
        attempt,
        ttl_s,
    )
    return fence


async def renew(conn: Connection | Pool, anvil: str, fence: int, ttl_s: float) -> Renewal:
    """Extend a live lease and learn what is asked of its ritual. An expired lease cannot be renewed."""
    row = await conn.fetchrow(
        "UPDATE lease SET renewed_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => $3) "
        "FROM ritual WHERE anvil = $1 AND fence = $2 AND ritual.id = lease.ritual "
        "AND is_live(lease) RETURNING ritual.cancel_requested_at IS NOT NULL AS cancelled, ritual.paused_at IS NOT NULL AS paused",
        anvil,
        fence,
        ttl_s,
    )
    return Renewal(True, **row) if row else Renewal(held=False, cancelled=False, paused=False)


async def release(conn: Connection | Pool, anvil: str, fence: int) -> bool:
    """Free the anvil. Only call it once nothing of the holder runs and its memory is free."""
    return bool(
        await conn.fetchval(
            "UPDATE lease SET ritual = NULL, attempt = NULL, expires_at = '-infinity' "
            "WHERE anvil = $1 AND fence = $2 AND ritual IS NOT NULL RETURNING true",
            anvil,
            fence,
        )
    )


async def get_lease(conn: Connection | Pool, anvil: str) -> Lease | None:
    """The lease on this anvil, live or expired; None when it is free."""
    row = await conn.fetchrow(f"{_HELD} WHERE anvil = $1 AND ritual IS NOT NULL", anvil)
    return _as_lease(row)


async def get_lease_of(conn: Connection | Pool, ritual: UUID) -> Lease | None:
    """The lease of this ritual, live or expired; None where it has none."""
    return _as_lease(await conn.fetchrow(f"{_HELD} WHERE ritual = $1", ritual))


async def get_live_lease(conn: Connection | Pool, ritual: UUID) -> Lease | None:
    """The live lease of this ritual; None where it has none."""
    row = await conn.fetchrow(f"{_HELD} WHERE ritual = $1 AND is_live(lease)", ritual)
    return _as_lease(row)


async def get_seconds_left(conn: Connection | Pool, ritual: UUID, fence: int) -> float | None:
    """Seconds that the live lease of this ritual with this fence lasts unless it is renewed; None where there is none."""
    left_s: float | None = await conn.fetchval(
        "SELECT extract(epoch FROM expires_at - clock_timestamp())::float8 FROM lease "
        "WHERE ritual = $1 AND fence = $2 AND is_live(lease)",
        ritual,
        fence,
    )
    return left_s


def _as_lease(row: Any) -> Lease | None:
    return Lease(**dict(row)) if row else None
