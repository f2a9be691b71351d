"""All SQL of the registry: versions and their faults, aliases with their history, and taint by revoked karma."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.storage.postgres import Connection, Pool


@dataclass(frozen=True)
class Version:
    """A registered adapter. `adapter` and `base` are digests, `bundle` its directory in the Crypt."""

    name: str
    persona: str
    adapter: str
    base: str
    ritual: UUID
    bundle: str


@dataclass(frozen=True)
class TaintedVersion:
    """A version to act on. `karma`: the records not announced yet, or all; `serves`: an alias points to it."""

    name: str
    persona: str
    ritual: UUID
    serves: bool
    karma: tuple[str, ...]


_VERSION = ", ".join(field.name for field in fields(Version))


async def insert_version(conn: Connection, version: Version) -> None:
    """Insert a version; an existing one of that name is left as it is."""
    await conn.execute(
        f"INSERT INTO version ({_VERSION}) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        version.name,
        version.persona,
        version.adapter,
        version.base,
        version.ritual,
        version.bundle,
    )


# Never one that was withdrawn, nor one with revoked karma that is not announced yet.
_MAY_SERVE = "withdrawn_at IS NULL AND NOT EXISTS (SELECT FROM taint t WHERE t.ritual = version.ritual AND t.announced_at IS NULL)"


async def list_served(conn: Connection | Pool) -> list[Version]:
    """List the versions that are to serve: those of the aliases or, for one with a fault, the version before."""
    rows = await conn.fetch(
        f"SELECT {_VERSION} FROM version WHERE name IN (SELECT version FROM served) ORDER BY registered_at"
    )
    return [Version(**row) for row in rows]


_ALIASED = "name IN (SELECT version FROM alias UNION ALL SELECT previous FROM alias)"


async def list_kept(conn: Connection | Pool) -> list[Version]:
    """List the versions that must stay whole: those of the aliases, and those before, which may have to stand in."""
    rows = await conn.fetch(f"SELECT {_VERSION} FROM version WHERE {_ALIASED} AND {_MAY_SERVE} ORDER BY registered_at")
    return [Version(**row) for row in rows]


async def list_faulty(conn: Connection | Pool, retry_s: float) -> list[Version]:
    """List those of `list_kept` whose fault was found `retry_s` ago or earlier: they may be whole again."""
    rows = await conn.fetch(
        f"SELECT {_VERSION} FROM version WHERE {_ALIASED} AND {_MAY_SERVE} AND name IN "
        "(SELECT version FROM fault WHERE checked_at <= clock_timestamp() - make_interval(secs => $1)) ORDER BY registered_at",
        retry_s,
    )
    return [Version(**row) for row in rows]


async def record_fault(conn: Connection | Pool, version: str, reason: str) -> bool:
    """Record why a version cannot serve. True unless it had a fault already."""
    return bool(
        await conn.fetchval(
            "INSERT INTO fault AS f (version, reason) VALUES ($1, $2) ON CONFLICT (version) DO UPDATE SET "
            "reason = excluded.reason, checked_at = clock_timestamp() RETURNING xmax = 0",  # 0 where it was inserted
            version,
            reason,
        )
    )


async def clear_fault(conn: Connection | Pool, version: str) -> bool:
    """Delete the fault of a version that is whole. True where it had one."""
    return bool(await conn.fetchval("DELETE FROM fault WHERE version = $1 RETURNING true", version))


async def may_serve(conn: Connection | Pool, name: str) -> bool:
    return bool(await conn.fetchval(f"SELECT true FROM version WHERE name = $1 AND {_MAY_SERVE}", name))


async def get_version(conn: Connection | Pool, name: str) -> Version | None:
    row = await conn.fetchrow(f"SELECT {_VERSION} FROM version WHERE name = $1", name)
    return Version(**row) if row else None


async def get_alias(conn: Connection | Pool, persona: str) -> str | None:
    """The version that the alias of a persona points to."""
    version: str | None = await conn.fetchval("SELECT version FROM alias WHERE persona = $1", persona)
    return version


async def record_failed_probe(conn: Connection | Pool, name: str) -> int:
    """Count one more failed proof of this version's binding; returns the failures so far."""
    failures: int = await conn.fetchval(
        "UPDATE version SET failed_probes = failed_probes + 1 WHERE name = $1 RETURNING failed_probes", name
    )
    return failures


async def move_alias(conn: Connection, persona: str, version: str, ritual: UUID) -> None:
    """Point the persona's alias to `version`; the one that served before is kept as `previous`."""
    previous = await get_alias(conn, persona)
    await conn.execute(
        "INSERT INTO alias (persona, version) VALUES ($1, $2) ON CONFLICT (persona) DO UPDATE SET "
        "previous = CASE WHEN alias.version = excluded.version "
        "OR (alias.previous IS NOT NULL AND EXISTS (SELECT FROM fault f WHERE f.version = alias.version)) "
        "THEN alias.previous ELSE alias.version END, "
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


async def record_taint(conn: Connection, rituals: Iterable[UUID], karma: Iterable[str]) -> None:
    """Record that these rituals trained on these revoked records, once."""
    await conn.execute(
        "INSERT INTO taint (ritual, karma) SELECT r.id, k FROM public.ritual r CROSS JOIN unnest($2::text[]) AS k "
        "WHERE r.id = ANY ($1::uuid[]) ON CONFLICT DO NOTHING",
        list(rituals),
        list(karma),
    )


async def list_tainted(conn: Connection | Pool, withdrawing: bool) -> list[TaintedVersion]:
    """List the tainted versions to act on: those not announced, and where `withdrawing` also those not withdrawn."""
    rows = await conn.fetch(
        "SELECT v.name, v.persona, v.ritual, a.version IS NOT NULL AS serves, coalesce("
        "array_agg(t.karma ORDER BY t.karma) FILTER (WHERE t.announced_at IS NULL), array_agg(t.karma ORDER BY t.karma)) AS karma "
        "FROM version v JOIN taint t ON t.ritual = v.ritual LEFT JOIN alias a ON a.version = v.name "
        "GROUP BY v.name, a.version "
        "HAVING bool_or(t.announced_at IS NULL) OR ($1 AND (v.withdrawn_at IS NULL OR a.version IS NOT NULL)) "
        "ORDER BY v.registered_at, v.name",
        withdrawing,
    )
    return [TaintedVersion(**{**row, "karma": tuple(row["karma"])}) for row in rows]


async def mark_taint_announced(conn: Connection, ritual: UUID, karma: Iterable[str]) -> None:
    await conn.execute(
        "UPDATE taint SET announced_at = clock_timestamp() "
        "WHERE ritual = $1 AND karma = ANY ($2::text[]) AND announced_at IS NULL",
        ritual,
        list(karma),
    )


async def list_tainted_rituals(conn: Connection | Pool) -> list[UUID]:
    """List the open rituals that train, or trained, on revoked records and are not flagged for cancellation."""
    rows = await conn.fetch(
        "SELECT id FROM ritual WHERE ended_at IS NULL AND cancel_requested_at IS NULL "
        "AND id IN (SELECT ritual FROM taint) ORDER BY id"
    )
    return [row["id"] for row in rows]


async def withdraw(conn: Connection, version: str, why: str) -> bool:
    """Withdraw `version` from serving for good. True when an alias pointed to it and was moved or deleted.

    The alias moves back to the previous version where that one is untainted, else it is deleted.
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
