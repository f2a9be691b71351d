"""SQL of the gateway's own table, the capabilities that it announced; and of the decisions, which it only reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from shared.storage.postgres import Connection, Source


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


async def list_decisions(source: Source, persona: str) -> list[dict[str, Any]]:
    """The decisions about a persona's versions, the newest first."""
    rows = await source.fetch(
        'SELECT decided_at, action, version, champion_before, champion, "by", why, override, source '
        "FROM registry.decision WHERE persona = $1 ORDER BY id DESC",
        persona,
    )
    return [{**row, "decided_at": row["decided_at"].isoformat()} for row in rows]
