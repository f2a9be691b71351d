"""SQL of the gateway's own table: the capabilities that it announced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from shared.storage.postgres import Connection


@dataclass(frozen=True)
class Capability:
    """A persona that some open engine answers for. `context_limit` in tokens."""

    persona: str
    model: str
    version: str
    adapter: str
    ritual: UUID
    base: str
    context_limit: int
    address: str


async def lock_capabilities(conn: Connection) -> dict[str, Capability]:
    """What is announced, by persona; others wait for this transaction."""
    rows = await conn.fetch(
        "SELECT persona, model, version, adapter, ritual, base, context_limit, address FROM capability FOR UPDATE"
    )
    return {row["persona"]: Capability(**row) for row in rows}


async def record_capability(conn: Connection, one: Capability) -> None:
    await conn.execute(
        "INSERT INTO capability (persona, model, version, adapter, ritual, base, context_limit, address) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (persona) DO UPDATE SET "
        "model = $2, version = $3, adapter = $4, ritual = $5, base = $6, context_limit = $7, address = $8, "
        "announced_at = clock_timestamp()",
        one.persona,
        one.model,
        one.version,
        one.adapter,
        one.ritual,
        one.base,
        one.context_limit,
        one.address,
    )


async def delete_capability(conn: Connection, persona: str) -> None:
    await conn.execute("DELETE FROM capability WHERE persona = $1", persona)
