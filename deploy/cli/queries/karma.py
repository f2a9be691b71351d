"""Queries about karma records and the manifests that hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.postgres import Connection, Pool

    Source = Connection | Pool


async def get_records(source: Source, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What is known of these records, by id: of those that are remembered, revoked, or both."""
    rows = await source.fetch(
        "SELECT id, k.persona, k.status, r.revoked_at, r.revoked_by, r.why FROM unnest($1::text[]) AS id "
        "LEFT JOIN vectors.karma k USING (id) LEFT JOIN harvester.revocation r ON r.karma = id "
        "WHERE k.id IS NOT NULL OR r.karma IS NOT NULL",
        list(ids),
    )
    return {row["id"]: dict(row) for row in rows}


async def list_unrevoked(source: Source, ids: Iterable[str]) -> list[str]:
    """Those of the ids whose revocation was not entered yet."""
    rows = await source.fetch(
        "SELECT id FROM unnest($1::text[]) AS id WHERE id NOT IN (SELECT karma FROM harvester.revocation)", list(ids)
    )
    return [row["id"] for row in rows]


async def list_manifests(source: Source) -> list[dict[str, Any]]:
    """Every dataset manifest, the newest first."""
    rows = await source.fetch(
        "SELECT digest, persona, holdout, train, dev, held_out, created_at FROM harvester.manifest ORDER BY created_at DESC, digest"
    )
    return [dict(row) for row in rows]
