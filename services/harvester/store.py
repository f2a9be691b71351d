"""SQL of what is kept of a harvest: exclusions, the manifest, the sealed holdout. Reads the temporary tables of admission."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from services.harvester.rows import File

if TYPE_CHECKING:
    from services.harvester.manifest.compile import Compiled
    from shared.storage.postgres import Connection


async def record_exclusions(conn: Connection, ritual: UUID) -> None:
    """Enter into the negative ledger which records the ritual does not use, and why, and which of the used contradict."""
    await conn.execute(
        "INSERT INTO exclusion (ritual, karma, reason, repeats) SELECT $1, karma, reason, repeats FROM admission "
        "WHERE reason IS NOT NULL ON CONFLICT DO NOTHING",
        ritual,
    )
    await conn.execute(
        "INSERT INTO contradiction (ritual, one, other) SELECT $1, one, other FROM contradicted ON CONFLICT DO NOTHING",
        ritual,
    )


async def record_manifest(conn: Connection, persona: str, compiled: Compiled) -> None:
    """Record the manifest and which records are in its files; repeatable, as it is named by its content."""
    await conn.execute(
        "INSERT INTO manifest (digest, persona, holdout, train, dev, held_out) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        compiled.manifest,
        persona,
        compiled.holdout,
        compiled.rows[File.TRAIN],
        compiled.rows[File.DEV],
        compiled.rows[File.HOLDOUT],
    )
    await conn.execute(
        "INSERT INTO manifest_record (manifest, karma, side) SELECT DISTINCT ON (karma) $1, karma, side FROM ("
        "SELECT karma, side FROM admission WHERE reason IS NULL "
        "UNION ALL SELECT rejected, 'rejected' FROM admission WHERE rejected IS NOT NULL"
        ") AS held ORDER BY karma, side = 'rejected' ON CONFLICT DO NOTHING",
        compiled.manifest,
    )


async def seal_holdout(conn: Connection, persona: str) -> None:
    """Seal what was admitted to the holdout: it is never trained from now on."""
    await conn.execute(
        "INSERT INTO sealed (persona, karma) SELECT $1, karma FROM admission WHERE reason IS NULL AND side = 'holdout' "
        "ORDER BY karma ON CONFLICT DO NOTHING",
        persona,
    )
