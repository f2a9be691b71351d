"""The table of personas and versions: read from the registry's, and kept in `<home>/gateway/table.json`.

The gateway serves by it while PostgreSQL is away, also after a restart.
"""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from pydantic import Field, ValidationError

from shared.contracts.frozen import Frozen
from shared.storage.artifacts import make_folder, write_atomically

if TYPE_CHECKING:
    from shared.storage.postgres import Pool

log = structlog.get_logger()


class Version(Frozen):
    """A version in the Crypt. `adapter` is its digest; `trouble` is why it may not serve."""

    name: str
    persona: str
    adapter: str
    ritual: UUID
    registered_at: datetime
    trouble: str | None


class Persona(Frozen):
    """What serves for a persona: a version, or none, and why."""

    version: str | None
    trouble: str | None


class Table(Frozen):
    """Every persona and version, as they were at `read_at`, in seconds since the epoch; 0: never read."""

    read_at: float = 0.0
    personas: dict[str, Persona] = Field(default_factory=dict)
    versions: dict[str, Version] = Field(default_factory=dict)

    @property
    def age_s(self) -> float:
        return time.time() - self.read_at


def table_file(home: Path) -> Path:
    return home / "gateway" / "table.json"


async def query_table(pool: Pool) -> Table:
    """Read the registry's tables, both as of one moment."""
    read_at = time.time()
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        versions = await conn.fetch(
            "SELECT v.name, v.persona, v.adapter, v.ritual, v.registered_at, "
            "CASE WHEN v.withdrawn_at IS NOT NULL THEN 'it was withdrawn' ELSE f.reason END AS trouble "
            "FROM registry.version v LEFT JOIN registry.fault f ON f.version = v.name"
        )
        served = await conn.fetch("SELECT persona, wanted, fault, version FROM registry.served")
    return Table(
        read_at=read_at,
        personas={row["persona"]: _persona(**row) for row in served},
        versions={row["name"]: Version(**row) for row in versions},
    )


def _persona(persona: str, wanted: str, fault: str | None, version: str | None) -> Persona:
    trouble = None if version == wanted else f"{wanted} does not serve: {fault or 'it is being recalled'}"
    return Persona(version=version, trouble=trouble)


def read_table(home: Path) -> Table:
    """The table as it was kept last; an empty one where there is none, or it cannot be read."""
    file = table_file(home)
    try:
        return Table.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return Table()
    except (OSError, ValidationError) as error:
        log.error("table not readable", file=str(file), error=str(error))
        return Table()


def write_table(home: Path, table: Table) -> None:
    """Keep the table, so that it survives a power cut."""
    file = table_file(home)
    make_folder(file.parent)
    write_atomically(file, table.model_dump_json())
