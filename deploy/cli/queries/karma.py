"""Queries about karma records and the manifests that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.storage.postgres import Connection, Pool

    Source = Connection | Pool


@dataclass(frozen=True)
class KnownRecord:
    """What is known of a record. Without a persona it is not remembered, only revoked."""

    id: str
    persona: str | None = None
    status: str | None = None
    revoked_at: datetime | None = None
    revoked_by: str | None = None
    why: str | None = None


@dataclass(frozen=True)
class Manifest:
    """A dataset manifest with the number of records in each part."""

    digest: str
    persona: str
    train: int
    dev: int
    held_out: int
    created_at: datetime


async def list_records(source: Source, ids: Iterable[str]) -> dict[str, KnownRecord]:
    """Those of the ids that are remembered, revoked, or both."""
    rows = await source.fetch(
        "SELECT id, k.persona, k.status, r.revoked_at, r.revoked_by, r.why FROM unnest($1::text[]) AS id "
        "LEFT JOIN vectors.karma k USING (id) LEFT JOIN harvester.revocation r ON r.karma = id "
        "WHERE k.id IS NOT NULL OR r.karma IS NOT NULL",
        list(ids),
    )
    return {row["id"]: KnownRecord(**row) for row in rows}


async def list_unrevoked(source: Source, ids: Iterable[str]) -> list[str]:
    """Those of the ids that are not revoked yet."""
    rows = await source.fetch(
        "SELECT id FROM unnest($1::text[]) AS id WHERE id NOT IN (SELECT karma FROM harvester.revocation)", list(ids)
    )
    return [row["id"] for row in rows]


async def list_manifests(source: Source) -> list[Manifest]:
    """Every dataset manifest, the newest first."""
    rows = await source.fetch(
        "SELECT digest, persona, train, dev, held_out, created_at FROM harvester.manifest ORDER BY created_at DESC, digest"
    )
    return [Manifest(**row) for row in rows]
