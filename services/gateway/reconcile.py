"""Keep the announced capabilities, and the last use of each key, as they are: a persona is announced while it can answer.

It can while an open engine has the version that serves it. Compared with the rows at every change at the door and every few
seconds, so that a restart repairs what was missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from services.gateway import store
from services.gateway.errors import Refusal
from services.gateway.keys.store import mark_used
from services.gateway.names import unloaded
from services.gateway.store import Capability
from shared.contracts.capability import CapabilityAnnounced, CapabilityWithdrawn
from shared.contracts.text import clean
from shared.messaging.outbox import enqueue

if TYPE_CHECKING:
    from services.gateway.door import Door
    from services.gateway.engines import Engines
    from services.gateway.names import Target
    from shared.contracts.message import Message
    from shared.runtime.context import ServiceContext
    from shared.storage.postgres import Connection

log = structlog.get_logger()


async def reconcile(context: ServiceContext, door: Door) -> None:
    """Announce what became one and withdraw what is none any more; nothing while the door knows too little to tell."""
    if not door.sees or not door.engines.polled:
        return
    live = {one.persona: one for one in list_live(door, f"{context.settings.gateway_url}/v1")}
    async with context.pool.acquire() as conn, conn.transaction():
        announced = await store.lock_capabilities(conn)
        for persona, one in live.items():
            if one != announced.get(persona):
                await _announce(conn, one)
        for persona in announced.keys() - live.keys():
            await _withdraw(conn, announced[persona], find_reason(door, persona))
        if used := door.authenticator.used:
            await mark_used(conn, used)


def list_live(door: Door, address: str) -> Iterator[Capability]:
    """The personas that an open engine answers for."""
    for persona in door.table.personas:
        target = _resolve(door, persona)
        if isinstance(target, Refusal) or (limit := _context_limit(door.engines, target)) is None:
            continue
        assert target.ritual and target.adapter
        base = door.engines.base_of(persona)
        yield Capability(persona, persona, target.model, target.adapter, target.ritual, base, limit, address)


def find_reason(door: Door, persona: str) -> str:
    """Why nothing answers for a persona, in the words that its clients get."""
    target = _resolve(door, persona)
    if isinstance(target, Refusal):
        return str(target)
    engine = door.engines.closed(persona, target.model)
    return str(unloaded(target, door.engines.answering(persona, target.model), engine.closed if engine else None))


def _resolve(door: Door, persona: str) -> Target | Refusal:
    try:
        return door.resolve(persona)
    except Refusal as refusal:
        return refusal


def _context_limit(engines: Engines, target: Target) -> int | None:
    """The longest request that every engine takes which may answer; None where none may. A base of that name is no persona."""
    having = engines.having(target.model) if target.persona else []
    return min((engine.context_limit for engine in having), default=None)


async def _announce(conn: Connection, one: Capability) -> None:
    await store.record_capability(conn, one)
    await _publish(conn, CapabilityAnnounced(**asdict(one), at=datetime.now(UTC)))
    log.info("capability announced", persona=one.persona, version=one.version)


async def _withdraw(conn: Connection, one: Capability, reason: str) -> None:
    await store.delete_capability(conn, one.persona)
    of = {"persona": one.persona, "model": one.model, "version": one.version}
    await _publish(conn, CapabilityWithdrawn(**of, reason=clean(reason), at=datetime.now(UTC)))
    log.info("capability withdrawn", **of, reason=reason)


async def _publish(conn: Connection, message: Message) -> None:
    await enqueue(conn, message, uuid4(), {})
