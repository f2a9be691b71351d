"""SQL of the registry: versions, where they are loaded, faults, taint by revoked karma. That of the aliases: decisions.py."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from shared.contracts.message import RITUAL_NAMESPACE
from shared.contracts.registry import AdapterDecide, AdapterDecided, AdapterRegistered, DecisionRefused
from shared.messaging.outbox import enqueue

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
    """A version to act on. `karma`: the records not announced yet, or all; `serves`: it is the champion."""

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


async def list_served(conn: Connection | Pool) -> list[Version]:
    """List the versions that are to serve: the champions or, for one that cannot, the version before."""
    rows = await conn.fetch(
        f"SELECT {_VERSION} FROM version WHERE name IN (SELECT version FROM served) ORDER BY registered_at"
    )
    return [Version(**row) for row in rows]


# What is to be promoted by an override is loaded first, and answers from the promotion on.
_ALLOWED = (
    "(NOT EXISTS (SELECT FROM withdrawal w WHERE w.adapter = version.adapter) OR EXISTS ("
    "SELECT FROM alias a JOIN decision d ON d.id = a.approved WHERE a.candidate = version.name AND d.override))"
)


async def list_desired(conn: Connection | Pool) -> list[Version]:
    """List the versions that every rune of their base is to have loaded: champions first, previous ones, then candidates.

    Never one that may not answer, unless it is about to be promoted by an override.
    """
    rows = await conn.fetch(
        f"SELECT {_VERSION} FROM version WHERE name IN (SELECT unnest(array[champion, previous, candidate]) FROM alias) "
        f"AND {_ALLOWED} ORDER BY name IN (SELECT champion FROM alias) DESC NULLS LAST, "
        "name IN (SELECT previous FROM alias) DESC NULLS LAST, registered_at"
    )
    return [Version(**row) for row in rows]


async def list_faulty(conn: Connection | Pool, retry_s: float) -> dict[str, bool]:
    """The versions with a fault, and whether it was found `retry_s` ago or earlier: they may be whole again."""
    rows = await conn.fetch(
        "SELECT version, checked_at <= clock_timestamp() - make_interval(secs => $1) AS due FROM fault", retry_s
    )
    return {row["version"]: row["due"] for row in rows}


async def list_unwanted(conn: Connection | Pool, names: Iterable[str]) -> dict[str, bool]:
    """Those of these names that are versions and need not be loaded, and whether they are withdrawn.

    What an alias points to, and what a ritual waits for, is wanted.
    """
    rows = await conn.fetch(
        f"SELECT name, NOT {_ALLOWED} AS withdrawn FROM version WHERE name = ANY ($1::text[]) AND (NOT {_ALLOWED} "
        "OR name NOT IN (SELECT unnest(array_remove(array[champion, previous, candidate], NULL)) FROM alias) AND name NOT IN ("
        "SELECT f.body ->> 'version' FROM ritual r JOIN ritual_fact f ON f.ritual = r.id AND f.subject = $2 WHERE r.ended_at IS NULL))",
        list(names),
        AdapterRegistered.subject,
    )
    return {row["name"]: row["withdrawn"] for row in rows}


async def record_loaded(conn: Connection | Pool, rune: str, version: str, probes: int, proven: bool) -> None:
    """Record that a rune has a version loaded, and whether it was proven to be what answers."""
    await conn.execute(
        "INSERT INTO loaded (rune, version, probes, proven) VALUES ($1, $2, $3, $4) ON CONFLICT (rune, version) DO UPDATE SET "
        "probes = excluded.probes, proven = excluded.proven",
        rune,
        version,
        probes,
        proven,
    )


async def forget_loaded(conn: Connection | Pool, rune: str, names: Iterable[str] = ()) -> None:
    """Forget what was recorded of a rune, but for the versions that it has loaded now."""
    await conn.execute("DELETE FROM loaded WHERE rune = $1 AND version <> ALL ($2::text[])", rune, list(names))


async def forget_unwanted(conn: Connection, rune: str, name: str) -> bool:
    """Forget that a rune has a version loaded; False where it is wanted by now. Needs a transaction."""
    await conn.execute(
        "SELECT FROM alias WHERE persona = (SELECT persona FROM version WHERE name = $1) FOR UPDATE", name
    )
    if name not in await list_unwanted(conn, [name]):
        return False
    await conn.execute("DELETE FROM loaded WHERE rune = $1 AND version = $2", rune, name)
    return True


async def list_loaded(conn: Connection | Pool, rune: str) -> dict[str, int | None]:
    """The versions that a rune has loaded, each with the prompts of its proof; None: not proven."""
    rows = await conn.fetch("SELECT version, probes, proven FROM loaded WHERE rune = $1", rune)
    return {row["version"]: row["probes"] if row["proven"] else None for row in rows}


async def count_probes(conn: Connection, version: str) -> int:
    """The prompts of the last proof that a version is what answers."""
    count: int = await conn.fetchval("SELECT coalesce(max(probes), 0) FROM loaded WHERE version = $1", version)
    return count


async def list_approved(conn: Connection | Pool) -> list[str]:
    """The personas whose candidate is approved, and promoted as soon as it is loaded."""
    return [row["persona"] for row in await conn.fetch("SELECT persona FROM alias WHERE approved IS NOT NULL")]


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


async def get_version(conn: Connection | Pool, name: str) -> Version | None:
    row = await conn.fetchrow(f"SELECT {_VERSION} FROM version WHERE name = $1", name)
    return Version(**row) if row else None


async def record_failed_probe(conn: Connection | Pool, name: str) -> int:
    """Count one more failed proof of this version's binding; returns the failures so far."""
    failures: int = await conn.fetchval(
        "UPDATE version SET failed_probes = failed_probes + 1 WHERE name = $1 RETURNING failed_probes", name
    )
    return failures


async def record_taint(conn: Connection, rituals: Iterable[UUID], karma: Iterable[str]) -> None:
    """Record that these rituals trained on these revoked records, once."""
    await conn.execute(
        "INSERT INTO taint (ritual, karma) SELECT r.id, k FROM public.ritual r CROSS JOIN unnest($2::text[]) AS k "
        "WHERE r.id = ANY ($1::uuid[]) ON CONFLICT DO NOTHING",
        list(rituals),
        list(karma),
    )


async def list_tainted(conn: Connection | Pool, withdrawing: bool) -> list[TaintedVersion]:
    """List the tainted versions to act on: those not announced, and where `withdrawing` also those not withdrawn.

    One that its owner promoted all the same is left alone, until more of its karma is revoked.
    """
    rows = await conn.fetch(
        "SELECT v.name, v.persona, v.ritual, a.champion IS NOT NULL AS serves, coalesce("
        "array_agg(t.karma ORDER BY t.karma) FILTER (WHERE t.announced_at IS NULL), array_agg(t.karma ORDER BY t.karma)) AS karma "
        "FROM version v JOIN taint t ON t.ritual = v.ritual LEFT JOIN alias a ON a.champion = v.name "
        "GROUP BY v.name, a.champion "
        "HAVING bool_or(t.announced_at IS NULL) OR ($1 AND v.withdrawn_at IS NULL AND v.overridden_at IS NULL) "
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


async def has_decided(conn: Connection, source: str) -> bool:
    """Whether what `source` asked for is a decision."""
    found: bool = await conn.fetchval("SELECT EXISTS (SELECT FROM decision WHERE source = $1)", source)
    return found


async def announce_decisions(conn: Connection) -> None:
    """Announce the decisions that are not announced yet, in their order. Needs a transaction."""
    rows = await conn.fetch(
        'SELECT id, persona, action, version, champion, "by", why, override, source, decided_at FROM decision '
        "WHERE announced_at IS NULL ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED"
    )
    for row in rows:
        values = {name: row[name] for name in AdapterDecided.model_fields}
        event = uuid5(RITUAL_NAMESPACE, f"{AdapterDecided.subject} {row['id']} {row['decided_at'].isoformat()}")
        await enqueue(conn, AdapterDecided(**values), event, {})
    if rows:
        await conn.execute(
            "UPDATE decision SET announced_at = clock_timestamp() WHERE id = ANY ($1)", [row["id"] for row in rows]
        )


async def announce_refusal(conn: Connection, asked: AdapterDecide, source: str, why: str) -> None:
    """Announce that a decision is not made; the same `source` is announced once."""
    of = {"persona": asked.persona, "action": asked.action, "version": asked.version, "by": asked.by}
    refused = DecisionRefused.model_validate({**of, "source": source, "refused": why})
    await enqueue(conn, refused, uuid5(RITUAL_NAMESPACE, f"{DecisionRefused.subject} {source}"), {})
