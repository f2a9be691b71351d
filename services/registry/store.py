"""All SQL of the registry: versions, aliases, the way of an alias, and what is tainted by revoked karma."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.storage.postgres import Connection, Pool


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
    """The versions the engine must serve: every alias's, and every registered one that is about to be awakened.

    Never one that was withdrawn, nor one whose revoked karma was not decided upon yet.
    """
    rows = await conn.fetch(
        "SELECT name, persona, adapter, base, ritual, bundle FROM version WHERE (name IN (SELECT version FROM alias) "
        "OR name IN (SELECT body ->> 'version' FROM ritual_fact f JOIN ritual r ON r.id = f.ritual "
        "WHERE r.state = 'registered' AND f.subject = 'adapter.registered')) AND withdrawn_at IS NULL "
        "AND NOT EXISTS (SELECT FROM taint t WHERE t.ritual = version.ritual AND t.said_at IS NULL) ORDER BY registered_at"
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


async def taint(conn: Connection, rituals: Iterable[UUID], karma: Iterable[str]) -> None:
    """Remember that these rituals trained on these revoked records, once."""
    await conn.execute(
        "INSERT INTO taint (ritual, karma) SELECT r.id, k FROM public.ritual r CROSS JOIN unnest($2::text[]) AS k "
        "WHERE r.id = ANY ($1::uuid[]) ON CONFLICT DO NOTHING",
        list(rituals),
        list(karma),
    )


async def undecided(conn: Connection, withdrawing: bool) -> list[dict[str, Any]]:
    """Tainted versions to act upon: of whose taint nothing was said yet, or that the policy withdraws and that still stand.

    `karma` is what was not said yet, or all where all was said; `serves` is true where the persona's name points there.
    """
    rows = await conn.fetch(
        "SELECT v.name, v.persona, v.ritual, a.version IS NOT NULL AS serves, "
        "coalesce(array_agg(t.karma ORDER BY t.karma) FILTER (WHERE t.said_at IS NULL), array_agg(t.karma ORDER BY t.karma)) AS karma "
        "FROM version v JOIN taint t ON t.ritual = v.ritual LEFT JOIN alias a ON a.version = v.name "
        "GROUP BY v.name, a.version HAVING bool_or(t.said_at IS NULL) OR ($1 AND (v.withdrawn_at IS NULL OR a.version IS NOT NULL)) "
        "ORDER BY v.registered_at, v.name",
        withdrawing,
    )
    return [dict(row) for row in rows]


async def taint_said(conn: Connection, ritual: UUID, karma: Iterable[str]) -> None:
    await conn.execute(
        "UPDATE taint SET said_at = clock_timestamp() WHERE ritual = $1 AND karma = ANY ($2::text[]) AND said_at IS NULL",
        ritual,
        list(karma),
    )


async def tainted_and_open(conn: Connection) -> list[UUID]:
    """Rituals under way that train, or trained, on revoked records and were not asked to end yet."""
    rows = await conn.fetch(
        "SELECT id FROM ritual WHERE ended_at IS NULL AND cancel_requested_at IS NULL "
        "AND id IN (SELECT ritual FROM taint) ORDER BY id"
    )
    return [row["id"] for row in rows]


async def withdraw(conn: Connection, version: str, why: str) -> bool:
    """Never serve `version` again. True when its persona's name pointed there and was moved or taken away.

    The name goes back to the version before it where that one is untainted, else it points nowhere.
    """
    await conn.execute(
        "UPDATE version SET withdrawn_at = coalesce(withdrawn_at, clock_timestamp()) WHERE name = $1", version
    )
    moved = await conn.fetchrow(
        "UPDATE alias SET version = p.name, previous = NULL, moved_at = clock_timestamp() FROM version p "
        "WHERE alias.version = $1 AND p.name = alias.previous AND p.withdrawn_at IS NULL AND p.name <> $1 "
        "AND NOT EXISTS (SELECT FROM taint t WHERE t.ritual = p.ritual) RETURNING alias.persona, alias.version",
        version,
    ) or await conn.fetchrow("DELETE FROM alias WHERE version = $1 RETURNING persona, NULL::text AS version", version)
    if moved is None:
        return False
    await conn.execute(
        "INSERT INTO alias_history (persona, version, previous, ritual, why) SELECT $1, $2, $3, ritual, $4 FROM version WHERE name = $3",
        moved["persona"],
        moved["version"],
        version,
        why,
    )
    return True
