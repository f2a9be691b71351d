"""All SQL of the registry: versions, aliases, and the way of an alias."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from shared.postgres import Connection, Pool


async def keep_version(
    conn: Connection, name: str, persona: str, adapter: str, base: str, ritual: UUID, bundle: str
) -> None:
    await conn.execute(
        "INSERT INTO version (name, persona, adapter, base, ritual, bundle) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        name,
        persona,
        adapter,
        base,
        ritual,
        bundle,
    )


async def wanted(conn: Connection | Pool) -> list[dict[str, Any]]:
    """The versions the engine must serve: every alias's, and every registered one that is about to be awakened."""
    rows = await conn.fetch(
        "SELECT name, persona, adapter, base, ritual, bundle FROM version WHERE name IN (SELECT version FROM alias) "
        "OR name IN (SELECT body ->> 'version' FROM ritual_fact f JOIN ritual r ON r.id = f.ritual "
        "WHERE r.state = 'registered' AND f.subject = 'adapter.registered') ORDER BY registered_at"
    )
    return [dict(row) for row in rows]


async def version_of(conn: Connection | Pool, name: str) -> dict[str, Any] | None:
    row = await conn.fetchrow("SELECT name, persona, adapter, base, ritual, bundle FROM version WHERE name = $1", name)
    return dict(row) if row else None


async def alias_of(conn: Connection | Pool, persona: str) -> str | None:
    version: str | None = await conn.fetchval("SELECT version FROM alias WHERE persona = $1", persona)
    return version


async def move_alias(conn: Connection, persona: str, version: str, ritual: UUID) -> None:
    """Point the persona's name to `version`; what it pointed to is kept as the previous one."""
    previous = await alias_of(conn, persona)
    await conn.execute(
        "INSERT INTO alias (persona, version) VALUES ($1, $2) ON CONFLICT (persona) DO UPDATE SET "
        "previous = CASE WHEN alias.version = excluded.version THEN alias.previous ELSE alias.version END, "
        "version = excluded.version, moved_at = clock_timestamp()",
        persona,
        version,
    )
    await conn.execute(
        "INSERT INTO alias_history (persona, version, previous, ritual) VALUES ($1, $2, $3, $4)",
        persona,
        version,
        previous,
        ritual,
    )
    await conn.execute(
        "UPDATE version SET awakened_at = coalesce(awakened_at, clock_timestamp()) WHERE name = $1", version
    )
