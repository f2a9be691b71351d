"""What readers may see of the registry: the versions in the Crypt, the aliases, and what came of a ritual.

Every function works on any connection, whatever its search path, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from shared.contracts.ritual import State

if TYPE_CHECKING:
    from shared.storage.postgres import Source


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version in the Crypt; `serves`: its persona's alias points to it."""

    name: str
    persona: str
    base: str
    ritual: UUID
    bundle: str
    registered_at: datetime
    serves: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a ritual came to: its state, and the version that it made."""

    ritual: UUID
    persona: str
    state: State
    version: str | None
    withdrawn_at: datetime | None
    serves: bool


async def list_versions(source: Source) -> list[RegisteredVersion]:
    """Every version, by persona, the newest first."""
    rows = await source.fetch(
        "SELECT v.name, v.persona, v.base, v.ritual, v.bundle, v.registered_at, a.version IS NOT NULL AS serves "
        "FROM registry.version v LEFT JOIN registry.alias a ON a.version = v.name ORDER BY v.persona, v.registered_at DESC"
    )
    return [RegisteredVersion(**row) for row in rows]


async def list_aliases(source: Source) -> dict[str, str]:
    """persona -> the version that its alias points to."""
    rows = await source.fetch("SELECT persona, version FROM registry.alias ORDER BY persona")
    return {row["persona"]: row["version"] for row in rows}


async def list_outcomes(source: Source, rituals: Iterable[UUID]) -> dict[UUID, Outcome]:
    """What these rituals came to, by ritual."""
    rows = await source.fetch(
        "SELECT r.id AS ritual, r.persona, r.state, v.name AS version, v.withdrawn_at, a.version IS NOT NULL AS serves "
        "FROM public.ritual r LEFT JOIN registry.version v ON v.ritual = r.id LEFT JOIN registry.alias a ON a.version = v.name "
        "WHERE r.id = ANY ($1::uuid[])",
        list(rituals),
    )
    return {row["ritual"]: Outcome(**{**row, "state": State(row["state"])}) for row in rows}
