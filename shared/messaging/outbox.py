"""Outbox: a message is stored in the transaction that made it true, and published after the commit."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

import nats.errors
import nats.js.errors
import structlog

from shared.contracts.intent import TrainingIntent
from shared.messaging.streams import INTENTS

if TYPE_CHECKING:
    from nats.js import JetStreamContext

    from shared.contracts.message import Message
    from shared.storage.postgres import Connection, Pool

BATCH = 16  # publishes in flight; more only adds latency when every message is synced to disk
PUBLISH_TIMEOUT_S = 5.0
INTENTS_SEARCHED = 64  # the newest intents in the stream among which an unanswered one is searched

log = structlog.get_logger()


async def enqueue(conn: Connection, message: Message, event_id: UUID, headers: dict[str, str]) -> None:
    """Enqueue `message` for publication once this transaction commits; the same event is enqueued once."""
    await conn.execute(
        "INSERT INTO outbox (event_id, subject, body, headers) VALUES ($1, $2, $3, $4) ON CONFLICT (event_id) DO NOTHING",
        event_id,
        message.subject,
        message.model_dump_json().encode(),
        headers,
    )


async def relay(pool: Pool, jetstream: JetStreamContext) -> int:
    """Publish one batch of waiting messages, oldest first, and mark those that the server stored. Returns how many.

    The rows stay locked while they are published, so that two relays never publish the same message at once. A crash in
    between publishes it twice with the same `Nats-Msg-Id`, which the stream deduplicates within its window; a handler
    that still gets it twice reads the same rows twice. Intents go last, and the first failure ends the batch: an intent
    is answered by the harvester, which may be down, and no other message is to wait for that.
    """
    failed: Exception | None = None
    async with pool.acquire() as conn, conn.transaction():
        rows = await conn.fetch(
            "SELECT seq, event_id, subject, body, headers FROM outbox WHERE published_at IS NULL "
            "ORDER BY subject = $2, seq LIMIT $1 FOR UPDATE SKIP LOCKED",
            BATCH,
            TrainingIntent.subject,
        )
        for row in rows:
            try:
                await _publish(jetstream, row)
            except nats.errors.Error as error:
                failed = error
                break
            await conn.execute("UPDATE outbox SET published_at = clock_timestamp() WHERE seq = $1", row["seq"])
    if failed:
        raise failed
    return len(rows)


async def _publish(jetstream: JetStreamContext, row: Any) -> None:
    """Publish and return once the message is stored or the intent answered. Raises nats.errors.Error where unknown."""
    headers = {"Nats-Msg-Id": str(row["event_id"]), "Content-Type": "application/json", **row["headers"]}
    try:
        await jetstream.publish(row["subject"], row["body"], timeout=PUBLISH_TIMEOUT_S, headers=headers)
    except nats.errors.TimeoutError:
        if row["subject"] != TrainingIntent.subject or not await _is_stored(jetstream, headers["Nats-Msg-Id"]):
            raise
    except nats.js.errors.BadRequestError as error:
        # Refused by the harvester; a repetition would be refused too.
        if row["subject"] != TrainingIntent.subject or error.err_code:
            raise
        log.error("intent refused", intent=str(row["event_id"]), error=error.description)


async def _is_stored(jetstream: JetStreamContext, id: str) -> bool:
    """True when the message is among the newest in the stream of intents, which does not acknowledge."""
    newest = (await jetstream.stream_info(INTENTS)).state.last_seq
    for seq in range(newest, max(newest - INTENTS_SEARCHED, 0), -1):
        with suppress(nats.js.errors.NotFoundError):
            message = await jetstream.get_msg(INTENTS, seq)
            if (message.headers or {}).get("Nats-Msg-Id") == id:
                return True
    return False


async def relay_all(pool: Pool, jetstream: JetStreamContext) -> None:
    while await relay(pool, jetstream) == BATCH:
        await asyncio.sleep(0)


async def get_oldest_unpublished_s(pool: Pool) -> float:
    """Age in seconds of the oldest unpublished message; 0 when all are published."""
    age = await pool.fetchval(
        "SELECT extract(epoch FROM clock_timestamp() - min(created_at))::float8 FROM outbox WHERE published_at IS NULL"
    )
    return float(age or 0.0)
