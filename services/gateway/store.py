"""SQL of the gateway's own table, the capabilities that it announced; and of the decisions, which it only reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from services.gateway.errors import RETRY_AFTER_S, Refusal
from shared.storage.postgres import UNREACHABLE

if TYPE_CHECKING:
    from shared.runtime.context import ServiceContext
    from shared.storage.postgres import Connection, Pool, Source

ANSWERED_S = 3.0  # for what a client asks of the database


@asynccontextmanager
async def database(context: ServiceContext | None) -> AsyncIterator[Pool]:
    """The database, for the statements of one request. Raises Refusal where it does not answer."""
    try:
        if context is None:
            raise ConnectionError("it has not answered since the start")
        async with asyncio.timeout(ANSWERED_S):
            yield context.pool
    except UNREACHABLE as error:
        reason = str(error) or type(error).__name__
        raise Refusal(503, "database_away", f"PostgreSQL does not answer ({reason})", RETRY_AFTER_S) from error


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
        "SELECT persona, model, version, adapter, ritual, base, context_limit, address FROM announced FOR UPDATE"
    )
    return {row["persona"]: Capability(**row) for row in rows}


async def record_capability(conn: Connection, one: Capability) -> None:
    await conn.execute(
        "INSERT INTO announced (persona, model, version, adapter, ritual, base, context_limit, address) "
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
    await conn.execute("DELETE FROM announced WHERE persona = $1", persona)


async def list_decisions(source: Source, persona: str) -> list[dict[str, Any]]:
    """The decisions about a persona's versions, the newest first."""
    rows = await source.fetch(
        'SELECT decided_at, action, version, champion_before, champion, "by", why, override, source '
        "FROM registry.decision WHERE persona = $1 ORDER BY id DESC",
        persona,
    )
    return [{**row, "decided_at": row["decided_at"].isoformat()} for row in rows]
