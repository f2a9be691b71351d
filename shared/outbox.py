"""Outbox and inbox: what is said leaves with the transaction that made it true, and what is heard counts once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from nats.js import JetStreamContext

    from shared.contracts.message import Message
    from shared.postgres import Connection, Pool

BATCH = 16  # publishes in flight; more only adds latency when every message is synced to disk
PUBLISH_TIMEOUT_S = 5.0


async def enqueue(conn: Connection, message: Message, event_id: UUID, headers: dict[str, str]) -> None:
    """Say `message` once this transaction commits; saying the same event again changes nothing."""
    await conn.execute(
        "INSERT INTO outbox (event_id, subject, body, headers) VALUES ($1, $2, $3, $4) ON CONFLICT (event_id) DO NOTHING",
        event_id,
        message.subject,
        message.model_dump_json().encode(),
        headers,
    )


async def hear(conn: Connection, subject: str, event_id: UUID) -> bool:
    """True the first time this event is heard."""
    return bool(
        await conn.fetchval(
            "INSERT INTO inbox (subject, event_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true",
            subject,
            event_id,
        )
    )


async def relay(pool: Pool, jetstream: JetStreamContext) -> int:
    """Publish what waits, oldest first, and mark what the server stored. Returns how many.

    The rows stay locked while they are published, so that two relays never say the same thing side by side; a crash
    in between says it twice with the same `Nats-Msg-Id`, which the stream and the inbox fold into one.
    """
    async with pool.acquire() as conn, conn.transaction():
        rows = await conn.fetch(
            "SELECT seq, event_id, subject, body, headers FROM outbox WHERE published_at IS NULL "
            "ORDER BY seq LIMIT $1 FOR UPDATE SKIP LOCKED",
            BATCH,
        )
        for row in rows:
            headers = {"Nats-Msg-Id": str(row["event_id"]), "Content-Type": "application/json", **row["headers"]}
            await jetstream.publish(row["subject"], row["body"], timeout=PUBLISH_TIMEOUT_S, headers=headers)
            await conn.execute("UPDATE outbox SET published_at = clock_timestamp() WHERE seq = $1", row["seq"])
        return len(rows)


async def relay_all(pool: Pool, jetstream: JetStreamContext) -> None:
    while await relay(pool, jetstream) == BATCH:
        await asyncio.sleep(0)


async def oldest_unpublished_s(pool: Pool) -> float:
    """Age in seconds of the oldest thing unsaid; 0 when all is said."""
    age = await pool.fetchval(
        "SELECT extract(epoch FROM clock_timestamp() - min(created_at))::float8 FROM outbox WHERE published_at IS NULL"
    )
    return float(age or 0.0)
