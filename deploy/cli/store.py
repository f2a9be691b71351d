"""SQL of the command line; it only reads. Big timing data (`spans`) stays in the database. Anvils: store_anvil.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.postgres import Connection, Pool

    Source = Connection | Pool

_RITUAL = "id, persona, intent, priority, state, attempt, trace_id, cancel_requested_at, cancel_why, created_at, entered_at, ended_at"
# What interrupted the attempt before, while the ritual waits for the next one.
_INTERRUPTION = (
    "(SELECT f.body FROM ritual_fact f WHERE f.ritual = r.id AND f.subject = 'gpu.interrupted' "
    "AND f.attempt = r.attempt - 1 AND r.state = 'harvested') AS interruption"
)


async def matching(source: Source, hex_prefix: str) -> list[UUID]:
    """Rituals whose id begins so (lower-case hex without dashes), the newest first, two at most."""
    rows = await source.fetch(
        "SELECT id FROM ritual WHERE replace(id::text, '-', '') LIKE $1 || '%' ORDER BY created_at DESC LIMIT 2",
        hex_prefix,
    )
    return [row["id"] for row in rows]


async def newest(source: Source) -> UUID | None:
    ritual: UUID | None = await source.fetchval("SELECT id FROM ritual ORDER BY created_at DESC LIMIT 1")
    return ritual


async def ritual(source: Source, ritual: UUID) -> dict[str, Any] | None:
    row = await source.fetchrow(f"SELECT {_RITUAL}, clock_timestamp() AS now FROM ritual WHERE id = $1", ritual)
    return dict(row) if row else None


async def facts(source: Source, ritual: UUID) -> list[dict[str, Any]]:
    """Every fact about a ritual in the order it was stated."""
    rows = await source.fetch(
        "SELECT subject, owner, attempt, state_before, state_after, body - 'spans' AS body, started_at, stated_at "
        "FROM ritual_fact WHERE ritual = $1 ORDER BY stated_at, subject",
        ritual,
    )
    return [dict(row) for row in rows]


async def excluded(source: Source, ritual: UUID) -> dict[str, int]:
    """Karma that was left out of a ritual, counted by reason."""
    rows = await source.fetch(
        "SELECT reason, count(*) AS records FROM harvester.exclusion WHERE ritual = $1 GROUP BY reason ORDER BY records DESC, reason",
        ritual,
    )
    return {row["reason"]: row["records"] for row in rows}


async def rituals(source: Source, limit: int) -> list[dict[str, Any]]:
    """The newest rituals first, each with the time that inference was away for it."""
    rows = await source.fetch(
        f"SELECT {_RITUAL}, {_INTERRUPTION}, clock_timestamp() AS now, "
        "(SELECT sum(seconds_without_inference) FROM orchestrator.hand_over WHERE ritual = r.id) AS seconds_without_inference "
        "FROM ritual r ORDER BY created_at DESC LIMIT $1",
        limit,
    )
    return [dict(row) for row in rows]


async def open_rituals(source: Source) -> list[dict[str, Any]]:
    rows = await source.fetch(
        f"SELECT {_RITUAL}, {_INTERRUPTION} FROM ritual r WHERE ended_at IS NULL ORDER BY priority DESC, created_at"
    )
    return [dict(row) for row in rows]


async def lease(source: Source, anvil: str) -> dict[str, Any] | None:
    """Who holds the anvil; `ritual` is None when nobody does."""
    row = await source.fetchrow(
        "SELECT l.ritual, l.attempt, l.fence, l.expires_at > clock_timestamp() AS live, r.persona "
        "FROM lease l LEFT JOIN ritual r ON r.id = l.ritual WHERE l.anvil = $1",
        anvil,
    )
    return dict(row) if row else None


async def versions(source: Source) -> list[dict[str, Any]]:
    """Every version in the Crypt; `serves` is true for the one its persona's name points to."""
    rows = await source.fetch(
        "SELECT v.name, v.persona, v.base, v.ritual, v.bundle, v.registered_at, v.awakened_at, a.version IS NOT NULL AS serves "
        "FROM registry.version v LEFT JOIN registry.alias a ON a.version = v.name ORDER BY v.persona, v.registered_at DESC"
    )
    return [dict(row) for row in rows]


async def aliases(source: Source) -> dict[str, str]:
    """persona -> the version that its name points to."""
    rows = await source.fetch("SELECT persona, version FROM registry.alias ORDER BY persona")
    return {row["persona"]: row["version"] for row in rows}


async def records(source: Source, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What is known of these records, by id: of those that are remembered, revoked, or both."""
    rows = await source.fetch(
        "SELECT id, k.persona, k.status, r.revoked_at, r.revoked_by, r.why FROM unnest($1::text[]) AS id "
        "LEFT JOIN vectors.karma k USING (id) LEFT JOIN harvester.revocation r ON r.karma = id "
        "WHERE k.id IS NOT NULL OR r.karma IS NOT NULL",
        list(ids),
    )
    return {row["id"]: dict(row) for row in rows}


async def unrevoked(source: Source, ids: Iterable[str]) -> list[str]:
    """Those of the ids whose revocation was not entered yet."""
    rows = await source.fetch(
        "SELECT id FROM unnest($1::text[]) AS id WHERE id NOT IN (SELECT karma FROM harvester.revocation)", list(ids)
    )
    return [row["id"] for row in rows]


async def made_by(source: Source, rituals: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
    """What these rituals came to: state and persona, and the version each made; `serves` where a name points to it."""
    rows = await source.fetch(
        "SELECT r.id, r.persona, r.state, r.ended_at, v.name AS version, v.withdrawn_at, a.version IS NOT NULL AS serves "
        "FROM ritual r LEFT JOIN registry.version v ON v.ritual = r.id LEFT JOIN registry.alias a ON a.version = v.name "
        "WHERE r.id = ANY ($1::uuid[])",
        list(rituals),
    )
    return {row["id"]: dict(row) for row in rows}


async def manifests(source: Source) -> list[dict[str, Any]]:
    """Every dataset manifest, the newest first."""
    rows = await source.fetch(
        "SELECT digest, persona, holdout, train, dev, held_out, created_at FROM harvester.manifest ORDER BY created_at DESC, digest"
    )
    return [dict(row) for row in rows]
