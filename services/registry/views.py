"""What readers may see of the registry: the versions in the Crypt, what serves, and what came of a ritual.

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
    """A version in the Crypt; `serves`: its persona is served by it; `fault`: why it cannot serve at present."""

    name: str
    persona: str
    base: str
    ritual: UUID
    bundle: str
    registered_at: datetime
    serves: bool
    fault: str | None


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """A version that serves, or that its persona falls back to. `adapter` is its digest."""

    name: str
    ritual: UUID
    adapter: str


@dataclass(frozen=True, slots=True)
class Served:
    """The version that its owner `wanted` for a persona, its fault, and the `version` that serves; None: none."""

    persona: str
    wanted: str
    fault: str | None
    version: str | None

    @property
    def trouble(self) -> str | None:
        """Why the wanted version does not serve, and what serves in its place; None where it serves."""
        if self.version == self.wanted:
            return None
        instead = f"{self.version} serves in its place" if self.version else f"nothing serves for {self.persona}"
        return f"{self.wanted} does not serve: {self.fault or 'it is being recalled'} ({instead})"


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
        "SELECT v.name, v.persona, v.base, v.ritual, v.bundle, v.registered_at, s.version IS NOT NULL AS serves, f.reason AS fault "
        "FROM registry.version v LEFT JOIN registry.served s ON s.version = v.name "
        "LEFT JOIN registry.fault f ON f.version = v.name ORDER BY v.persona, v.registered_at DESC"
    )
    return [RegisteredVersion(**row) for row in rows]


async def list_kept(source: Source) -> list[KeptVersion]:
    """The versions of the aliases, and those before."""
    rows = await source.fetch(
        "SELECT name, ritual, adapter FROM registry.version "
        "WHERE name IN (SELECT version FROM registry.alias UNION SELECT previous FROM registry.alias) ORDER BY name"
    )
    return [KeptVersion(**row) for row in rows]


async def list_served(source: Source) -> list[Served]:
    """What serves for every persona that has an adapter, by persona."""
    rows = await source.fetch("SELECT persona, wanted, fault, version FROM registry.served ORDER BY persona")
    return [Served(**row) for row in rows]


async def list_aliases(source: Source) -> dict[str, str]:
    """persona -> the version that serves for it; without those that no version serves for."""
    return {served.persona: served.version for served in await list_served(source) if served.version}


async def list_outcomes(source: Source, rituals: Iterable[UUID]) -> dict[UUID, Outcome]:
    """What these rituals came to, by ritual."""
    rows = await source.fetch(
        "SELECT r.id AS ritual, r.persona, r.state, v.name AS version, v.withdrawn_at, s.version IS NOT NULL AS serves "
        "FROM public.ritual r LEFT JOIN registry.version v ON v.ritual = r.id LEFT JOIN registry.served s ON s.version = v.name "
        "WHERE r.id = ANY ($1::uuid[])",
        list(rituals),
    )
    return {row["ritual"]: Outcome(**{**row, "state": State(row["state"])}) for row in rows}
