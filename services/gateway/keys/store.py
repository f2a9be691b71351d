"""SQL of the table of keys. The owner adds and revokes them; the gateway reads them, and records when each was used."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from services.gateway.keys.key import Key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.storage.postgres import Source

COLUMNS = "id, name, hash, scopes, personas, per_minute, expires_at, revoked_at"
ORDER = "created_at, id"


class StoredKey(Key):
    """A key, since when there is one, and when it was presented last."""

    created_at: datetime
    last_used_at: datetime | None


async def list_keys(source: Source) -> list[Key]:
    """Every key, the oldest first."""
    return [Key(**row) for row in await source.fetch(f"SELECT {COLUMNS} FROM gateway.api_key ORDER BY {ORDER}")]


async def get_key(source: Source, id: str) -> Key | None:
    """A key; None for one that is not in the table, as the owner's."""
    row = await source.fetchrow(f"SELECT {COLUMNS} FROM gateway.api_key WHERE id = $1", id)
    return Key(**row) if row else None


async def list_stored_keys(source: Source) -> list[StoredKey]:
    """Every key, the oldest first."""
    query = f"SELECT {COLUMNS}, created_at, last_used_at FROM gateway.api_key ORDER BY {ORDER}"
    return [StoredKey(**row) for row in await source.fetch(query)]


async def insert_key(source: Source, key: Key) -> None:
    await source.execute(
        "INSERT INTO gateway.api_key (id, name, hash, scopes, personas, per_minute, expires_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7)",
        key.id,
        key.name,
        key.hash,
        sorted(key.scopes),
        None if key.personas is None else sorted(key.personas),
        key.per_minute,
        key.expires_at,
    )


async def mark_revoked(source: Source, key: str) -> None:
    await source.execute(
        "UPDATE gateway.api_key SET revoked_at = clock_timestamp() WHERE id = $1 AND revoked_at IS NULL", key
    )


async def mark_used(source: Source, used: Mapping[str, float]) -> None:
    """Record when keys were presented last, in seconds since the epoch."""
    await source.execute(
        "UPDATE gateway.api_key k SET last_used_at = u.at FROM unnest($1::text[], $2::timestamptz[]) AS u (id, at) "
        "WHERE k.id = u.id AND k.last_used_at IS DISTINCT FROM u.at",
        list(used),
        [datetime.fromtimestamp(at, UTC) for at in used.values()],
    )
