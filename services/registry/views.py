"""What readers may see of the registry: the versions in the Crypt, what serves, and what came of a ritual.

Every function works on any connection, whatever its search path, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from services.registry.bundle import read_sidecar
from shared.contracts.harvest import SystemPrompt
from shared.contracts.ritual import State
from shared.storage.untrusted import OutputError

if TYPE_CHECKING:
    from shared.storage.postgres import Source


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version in the Crypt; `adapter` and `base` are digests; `serves`: its persona is served by it; `fault`: why it
    cannot serve at present.

    `roles` are what it is for its persona: champion, pinned, previous, candidate, approved, withdrawn; `loaded`: the runes
    that have it.
    """

    name: str
    persona: str
    adapter: str
    base: str
    ritual: UUID
    bundle: str
    registered_at: datetime
    serves: bool
    fault: str | None
    roles: tuple[str, ...]
    loaded: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether a rune's engine was found to answer with a version, by so many prompts, when it had loaded it."""

    rune: str
    version: str
    probes: int
    proven: bool
    since: datetime


@dataclass(frozen=True, slots=True)
class PersonaAliases:
    """What the names of a persona stand for; `held`: `pin` or `roll_back`, while nothing is promoted by policy."""

    persona: str
    champion: str | None
    previous: str | None
    candidate: str | None
    held: str | None


@dataclass(frozen=True, slots=True)
class RecordedDecision:
    """A decision about a persona's versions: the champion before it and after it, who, why and when."""

    decided_at: datetime
    action: str
    version: str | None
    champion_before: str | None
    champion: str | None
    by: str
    why: str
    override: bool


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """A version that serves, that its persona falls back to, or that may be promoted. `adapter` is its digest."""

    name: str
    ritual: UUID
    adapter: str


@dataclass(frozen=True, slots=True)
class Served:
    """The version that its owner `wanted` for a persona, why it does not serve, and the `version` that serves; None: none."""

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
        return f"{self.wanted} does not serve: {self.fault} ({instead})"


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
        "SELECT v.name, v.persona, v.adapter, v.base, v.ritual, v.bundle, v.registered_at, s.version IS NOT NULL AS serves, "
        "f.reason AS fault, "
        "array_remove(array[CASE WHEN a.champion = v.name THEN 'champion' END, "
        "CASE WHEN a.champion = v.name AND a.held = 'pin' THEN 'pinned' END, CASE WHEN a.previous = v.name THEN 'previous' END, "
        "CASE WHEN a.candidate = v.name THEN 'candidate' END, "
        "CASE WHEN a.candidate = v.name AND a.approved IS NOT NULL THEN 'approved' END, "
        "CASE WHEN w.adapter IS NOT NULL THEN 'withdrawn' END], NULL) AS roles, "
        "array(SELECT rune FROM registry.loaded l WHERE l.version = v.name ORDER BY rune) AS loaded "
        "FROM registry.version v LEFT JOIN registry.served s ON s.version = v.name "
        "LEFT JOIN registry.alias a ON a.persona = v.persona LEFT JOIN registry.withdrawal w ON w.adapter = v.adapter "
        "LEFT JOIN registry.fault f ON f.version = v.name ORDER BY v.persona, v.registered_at DESC"
    )
    return [RegisteredVersion(**{**row, "roles": tuple(row["roles"]), "loaded": tuple(row["loaded"])}) for row in rows]


def get_replaced(bundle: str) -> tuple[SystemPrompt, ...]:
    """The system prompts that the version of a bundle was trained to do without; none where that cannot be read here."""
    try:
        return read_sidecar(Path(bundle)).replaces or ()
    except OutputError:
        return ()


async def list_proofs(source: Source, persona: str) -> list[Proof]:
    """The proof of every version of a persona on every rune that has it loaded."""
    rows = await source.fetch(
        "SELECT l.rune, l.version, l.probes, l.proven, l.since FROM registry.loaded l "
        "JOIN registry.version v ON v.name = l.version WHERE v.persona = $1 ORDER BY l.version, l.rune",
        persona,
    )
    return [Proof(**row) for row in rows]


async def get_aliases(source: Source, persona: str) -> PersonaAliases | None:
    """What the names of a persona stand for; None where it has no version."""
    row = await source.fetchrow(
        "SELECT persona, champion, previous, candidate, held FROM registry.alias WHERE persona = $1", persona
    )
    return PersonaAliases(**row) if row else None


async def list_decisions(source: Source, persona: str) -> list[RecordedDecision]:
    """The decisions about a persona's versions, the newest first."""
    rows = await source.fetch(
        'SELECT decided_at, action, version, champion_before, champion, "by", why, override '
        "FROM registry.decision WHERE persona = $1 ORDER BY id DESC",
        persona,
    )
    return [RecordedDecision(**row) for row in rows]


async def list_kept(source: Source) -> list[KeptVersion]:
    """The champions, the previous versions and the candidates."""
    rows = await source.fetch(
        "SELECT name, ritual, adapter FROM registry.version "
        "WHERE name IN (SELECT unnest(array[champion, previous, candidate]) FROM registry.alias) ORDER BY name"
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
