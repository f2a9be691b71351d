"""Queries about versions in the Crypt and the rituals that made them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.postgres import Connection, Pool

    Source = Connection | Pool


async def list_versions(source: Source) -> list[dict[str, Any]]:
    """Every version in the Crypt; `serves` is true for the one its persona's name points to."""
    rows = await source.fetch(
        "SELECT v.name, v.persona, v.base, v.ritual, v.bundle, v.registered_at, v.awakened_at, a.version IS NOT NULL AS serves "
        "FROM registry.version v LEFT JOIN registry.alias a ON a.version = v.name ORDER BY v.persona, v.registered_at DESC"
    )
    return [dict(row) for row in rows]


async def list_aliases(source: Source) -> dict[str, str]:
    """persona -> the version that its name points to."""
    rows = await source.fetch("SELECT persona, version FROM registry.alias ORDER BY persona")
    return {row["persona"]: row["version"] for row in rows}


async def get_outcomes(source: Source, rituals: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
    """What these rituals came to: state and persona, and the version each made; `serves` where a name points to it."""
    rows = await source.fetch(
        "SELECT r.id, r.persona, r.state, r.ended_at, v.name AS version, v.withdrawn_at, a.version IS NOT NULL AS serves "
        "FROM ritual r LEFT JOIN registry.version v ON v.ritual = r.id LEFT JOIN registry.alias a ON a.version = v.name "
        "WHERE r.id = ANY ($1::uuid[])",
        list(rituals),
    )
    return {row["id"]: dict(row) for row in rows}
