"""The table of personas and versions: read from the registry's, and kept in `<home>/gateway/table.json`.

The gateway serves by it while PostgreSQL is away, also after a restart.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from pydantic import Field

from services.gateway.kept import Kept
from shared.config.settings import SettingsError
from shared.contracts.frozen import Frozen

if TYPE_CHECKING:
    from shared.storage.postgres import Connection

log = structlog.get_logger()

VERSIONS = """
    SELECT v.name, v.persona, v.adapter, v.ritual, v.registered_at, f.reason AS trouble, w.reason AS withdrawn,
        extract(epoch FROM v.overridden_at)::float8 AS overridden_at
    FROM registry.version v
    LEFT JOIN registry.withdrawal w ON w.adapter = v.adapter
    LEFT JOIN registry.fault f ON f.version = v.name
"""
PERSONAS = """
    SELECT a.persona, a.champion AS wanted, s.fault, s.version, a.previous
    FROM registry.alias a LEFT JOIN registry.served s ON s.persona = a.persona
"""


class Version(Frozen):
    """A version in the Crypt. `adapter` is its digest; `trouble` is why it cannot serve now, `withdrawn` why it may not.

    `overridden_at`: when it was promoted although it was withdrawn, in seconds since the epoch.
    """

    name: str
    persona: str
    adapter: str
    ritual: UUID
    registered_at: datetime
    trouble: str | None
    withdrawn: str | None = None
    overridden_at: float | None = None


class Persona(Frozen):
    """What serves for a persona: a version, or none, and why. `previous` takes its place where it is withdrawn.

    `wanted`: the version that its owner wants to serve.
    """

    version: str | None
    trouble: str | None
    previous: str | None = None
    wanted: str | None = None


class Table(Frozen):
    """Every persona and version, as they were at `read_at`, in seconds since the epoch; 0: never read."""

    read_at: float = 0.0
    personas: dict[str, Persona] = Field(default_factory=dict)
    versions: dict[str, Version] = Field(default_factory=dict)

    @property
    def age_s(self) -> float:
        return time.time() - self.read_at

    def limited_to(self, names: frozenset[str] | None) -> Table:
        """What a client sees that may use these personas; None: all."""
        if names is None:
            return self
        personas = {name: persona for name, persona in self.personas.items() if name in names}
        versions = {name: version for name, version in self.versions.items() if version.persona in names}
        return Table(read_at=self.read_at, personas=personas, versions=versions)


async def query_table(conn: Connection) -> Table:
    """Read the registry's tables, all as of one moment."""
    read_at = time.time()
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        versions = await conn.fetch(VERSIONS)
        personas = await conn.fetch(PERSONAS)
    return Table(
        read_at=read_at,
        personas={row["persona"]: _persona(**row) for row in personas},
        versions={row["name"]: Version(**row) for row in versions},
    )


def _persona(persona: str, wanted: str | None, fault: str | None, version: str | None, previous: str | None) -> Persona:
    trouble = None
    if wanted is None:
        trouble = "no version is promoted"
    elif version != wanted:
        trouble = f"{wanted} does not serve: {fault}"
    return Persona(version=version, trouble=trouble, previous=previous, wanted=wanted)


def read_table(file: Kept[Table]) -> Table:
    """The table as it was kept last; an empty one where there is none, or it cannot be read."""
    try:
        return file.read()
    except SettingsError as error:  # unlike a gate or a withdrawal, it is read again from the database
        log.error("table not readable", error=str(error))
        return Table()
