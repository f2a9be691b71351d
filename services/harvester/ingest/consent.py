"""Withdraw consent: revoke records for good, find what was built from them, and announce it on the bus."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID, uuid5

import structlog

from shared.contracts.harvest import KarmaHarvested
from shared.contracts.karma import KarmaRecalled, KarmaRevoked
from shared.contracts.message import RITUAL_NAMESPACE
from shared.messaging.outbox import enqueue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.storage.postgres import Connection, Pool

log = structlog.get_logger()

CONSENT_LOCK = 0x434F4E53  # a manifest is stated before a revocation looks for it, or after, never beside it
IDS_ANNOUNCED = 1000  # ids of one announcement: at 200 characters each they stay far below what the bus takes


async def announce(conn: Connection) -> None:
    """Announce where records are used that were not revoked by a message: in SQL, by a view or by an import."""
    rows = await conn.fetch(
        "SELECT karma FROM harvester.revocation WHERE announced_at IS NULL ORDER BY karma LIMIT $1 FOR UPDATE SKIP LOCKED",
        IDS_ANNOUNCED,
    )
    for recall in await list_recalls(conn, [row["karma"] for row in rows]) if rows else ():
        if recall.manifests:
            await enqueue(conn, recall, uuid5(RITUAL_NAMESPACE, f"announced {recall.model_dump_json()}"), {})
    await mark_announced(conn, [row["karma"] for row in rows])


async def mark_announced(conn: Connection, karma: Iterable[str]) -> None:
    """Record that the recall of these records was published."""
    await conn.execute(
        "UPDATE harvester.revocation SET announced_at = clock_timestamp() "
        "WHERE karma = ANY ($1::text[]) AND announced_at IS NULL",
        list(karma),
    )


async def revoke(conn: Connection, revoked: KarmaRevoked) -> None:
    """Withdraw consent to these ids; an unknown id is recorded too, in case its record comes later."""
    await conn.execute("SELECT pg_advisory_xact_lock($1)", CONSENT_LOCK)
    await conn.execute(
        "INSERT INTO harvester.revocation (karma, revoked_by, why) SELECT DISTINCT id, $2, $3 FROM unnest($1::text[]) AS id "
        "ON CONFLICT DO NOTHING",
        revoked.karma,
        revoked.by,
        revoked.why,
    )
    await conn.execute(
        "UPDATE vectors.karma SET status = 'revoked' WHERE id = ANY ($1::text[]) AND status <> 'revoked'", revoked.karma
    )


async def list_revoked(conn: Connection, manifest: str) -> list[str]:
    """Ids in the manifest whose consent is withdrawn by now.

    To be called in the transaction that states `karma.harvested`, after the manifest's records were recorded: what is
    revoked later finds this manifest, because both take CONSENT_LOCK.
    """
    await conn.execute("SELECT pg_advisory_xact_lock($1)", CONSENT_LOCK)
    rows = await conn.fetch(
        "SELECT karma FROM harvester.revocation JOIN harvester.manifest_record USING (karma) WHERE manifest = $1 ORDER BY karma",
        manifest,
    )
    return [row["karma"] for row in rows]


async def list_recalls(conn: Connection, karma: Iterable[str]) -> list[KarmaRecalled]:
    """What was built from these records, one recall for those that are in the same manifests.

    Each holds for every record it names, so that no adapter is blamed for another's record.
    """
    ids = tuple(dict.fromkeys(karma))
    alike: dict[tuple[str, ...], list[str]] = {}
    used = await list_manifests_of(conn, ids)
    for id in ids:
        alike.setdefault(used.get(id, ()), []).append(id)
    made = await list_rituals_of(conn, {manifest for manifests in alike for manifest in manifests})
    return [
        KarmaRecalled(
            karma=tuple(group[start : start + IDS_ANNOUNCED]),
            manifests=manifests,
            rituals=tuple(sorted({ritual for manifest in manifests for ritual in made.get(manifest, ())})),
        )
        for manifests, group in alike.items()
        for start in range(0, len(group), IDS_ANNOUNCED)
    ]


async def list_manifests_of(conn: Connection | Pool, karma: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """id → the manifests in whose files (train, dev or holdout) the record is."""
    rows = await conn.fetch(
        "SELECT karma, array_agg(manifest ORDER BY manifest) AS manifests FROM harvester.manifest_record "
        "WHERE karma = ANY ($1::text[]) GROUP BY karma",
        list(karma),
    )
    return {row["karma"]: tuple(row["manifests"]) for row in rows}


async def list_rituals_of(conn: Connection | Pool, manifests: Iterable[str]) -> dict[str, tuple[UUID, ...]]:
    """manifest → the rituals that it was compiled for."""
    rows = await conn.fetch(
        "SELECT body ->> 'manifest' AS manifest, array_agg(DISTINCT ritual ORDER BY ritual) AS rituals FROM public.ritual_fact "
        "WHERE subject = $2 AND body ->> 'manifest' = ANY ($1::text[]) GROUP BY 1",
        list(manifests),
        KarmaHarvested.subject,
    )
    return {row["manifest"]: tuple(row["rituals"]) for row in rows}
