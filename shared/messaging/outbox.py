"""Outbox: a message is stored in the transaction that made it true, and published after the commit."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

import nats.errors
import nats.js.errors
import structlog
from prometheus_client import Counter

from shared.contracts.intent import TrainingIntent
from shared.contracts.text import clean
from shared.messaging.streams import INTENTS

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext
    from nats.js.api import RawStreamMsg

    from shared.contracts.message import Message
    from shared.storage.postgres import Connection, Pool

BATCH = 16  # publishes in flight; more only adds latency when every message is synced to disk
PUBLISH_TIMEOUT_S = 5.0
LONGEST_DELAY_S = 60
HEADER_FRAME = len(b"NATS/1.0\r\n\r\n")
DELETED_AT_ONCE = 5000
INTENTS_SEARCHED = 64  # the newest intents in the stream among which an unanswered one is searched

log = structlog.get_logger()

IDS_TAKEN = Counter("soulforge_message_ids_taken_total", "Messages whose id another message had.", ["subject"])


@dataclass(frozen=True)
class Messages:
    """How many messages, and the bytes of their bodies."""

    count: int
    bytes: int


class Unpublished(NamedTuple):
    """A waiting message. `seq` is its row; `failures` counts attempts to publish it, with the last `error`."""

    age_s: float
    seq: int
    subject: str
    failures: int
    error: str | None


async def enqueue(conn: Connection, message: Message, event_id: UUID, headers: dict[str, str]) -> None:
    """Enqueue `message` for publication once this transaction commits; the same event is enqueued once."""
    await conn.execute(
        "INSERT INTO outbox (event_id, subject, body, headers) VALUES ($1, $2, $3, $4) ON CONFLICT (event_id) DO NOTHING",
        event_id,
        message.subject,
        message.model_dump_json().encode(),
        headers,
    )


async def relay(pool: Pool, client: Client) -> int:
    """Publish one batch of waiting messages, oldest first, and mark those that the server stored. Returns how many it took.

    The rows stay locked while they are published, so that two relays never publish the same message at once. A crash in
    between publishes it twice with the same `Nats-Msg-Id`, which the stream deduplicates within its window; a handler
    that still gets it twice reads the same rows twice. A message that fails is tried again after a growing delay, and holds
    up no other. A lost connection or a timeout ends the batch and is raised. Intents go last: they are answered by the
    harvester, which may be down.
    """
    async with pool.acquire() as conn, conn.transaction():
        rows = await conn.fetch(
            "SELECT seq, event_id, subject, body, headers, failures FROM outbox WHERE published_at IS NULL "
            "AND (retry_at IS NULL OR retry_at <= clock_timestamp()) "
            "ORDER BY subject = $2, seq LIMIT $1 FOR UPDATE SKIP LOCKED",
            BATCH,
            TrainingIntent.subject,
        )
        ended = await _publish_all(conn, client, rows)
    if ended:
        raise ended
    return len(rows)


async def _publish_all(conn: Connection, client: Client, rows: list[Any]) -> Exception | None:
    """Publish the rows one by one; what ended it early, if anything."""
    for row in rows:
        try:
            await _publish(client, row)
        except Exception as error:
            if not client.is_connected:
                return error
            await _postpone(conn, row, error)
            if isinstance(error, TimeoutError):
                return error
        else:
            await conn.execute("UPDATE outbox SET published_at = clock_timestamp() WHERE seq = $1", row["seq"])
    return None


async def _postpone(conn: Connection, row: Any, error: Exception) -> None:
    """Let the row wait for 1, 2, 4 … seconds."""
    failures, text = row["failures"] + 1, clean(f"{type(error).__name__}: {error}")
    delay_s = min(2 ** min(row["failures"], 6), LONGEST_DELAY_S)
    await conn.execute(
        "UPDATE outbox SET failures = $2, error = $3, retry_at = clock_timestamp() + make_interval(secs => $4) WHERE seq = $1",
        row["seq"],
        failures,
        text,
        delay_s,
    )
    log.error("message not published", subject=row["subject"], id=str(row["event_id"]), failures=failures, error=text)


async def _publish(client: Client, row: Any) -> None:
    """Publish and return once the message is stored or the intent answered. Raises where that is unknown, or refused.

    A fact's id can be guessed, and any message to the same stream can take it in advance: the stream then drops the fact as
    a duplicate. Such a fact is published under an id that cannot be guessed.
    """
    headers = {"Nats-Msg-Id": str(row["event_id"]), "Content-Type": "application/json", **row["headers"]}
    _check_size(client, row["body"], headers)
    if not await _store(client, row, headers):
        IDS_TAKEN.labels(row["subject"]).inc()
        log.error("id taken by another message", subject=row["subject"], id=str(row["event_id"]))
        await _store(client, row, {**headers, "Nats-Msg-Id": str(uuid4())})


async def _store(client: Client, row: Any, headers: dict[str, str]) -> bool:
    """Publish under the id in `headers`; False where the stream holds another message with this id."""
    jetstream = client.jetstream()
    try:
        ack = await jetstream.publish(row["subject"], row["body"], timeout=PUBLISH_TIMEOUT_S, headers=headers)
    except nats.errors.TimeoutError:
        if row["subject"] != TrainingIntent.subject:
            raise
        if (stored := await _find_intent(jetstream, headers["Nats-Msg-Id"])) is None:
            raise
        return _is(row, stored)
    except nats.js.errors.BadRequestError as error:
        # Refused by the harvester; a repetition would be refused too.
        if row["subject"] != TrainingIntent.subject or error.err_code:
            raise
        log.error("intent refused", intent=str(row["event_id"]), error=error.description)
        return True
    return not ack.duplicate or _is(row, await _get(jetstream, ack.stream, ack.seq))


def _is(row: Any, stored: RawStreamMsg | None) -> bool:
    return stored is not None and (stored.subject, stored.data) == (row["subject"], row["body"])


def _check_size(client: Client, body: bytes, headers: dict[str, str]) -> None:
    """Raise MaxPayloadError for what the server ends the connection for: nats-py does not count the headers."""
    size = len(body) + sum(len(f"{name}: {value}\r\n".encode()) for name, value in headers.items())
    if size + HEADER_FRAME > client.max_payload:
        raise nats.errors.MaxPayloadError


async def _find_intent(jetstream: JetStreamContext, id: str) -> RawStreamMsg | None:
    """The message with this id among the newest in the stream of intents, which does not acknowledge."""
    newest = (await jetstream.stream_info(INTENTS)).state.last_seq
    for seq in range(newest, max(newest - INTENTS_SEARCHED, 0), -1):
        message = await _get(jetstream, INTENTS, seq)
        if message and (message.headers or {}).get("Nats-Msg-Id") == id:
            return message
    return None


async def _get(jetstream: JetStreamContext, stream: str, seq: int) -> RawStreamMsg | None:
    with suppress(nats.js.errors.NotFoundError):
        return await jetstream.get_msg(stream, seq)
    return None


async def relay_all(pool: Pool, client: Client) -> None:
    while await relay(pool, client) == BATCH:
        await asyncio.sleep(0)


async def get_oldest_unpublished(pool: Pool) -> Unpublished | None:
    """The oldest unpublished message; None when all are published."""
    row = await pool.fetchrow(
        "SELECT extract(epoch FROM clock_timestamp() - created_at)::float8 AS age_s, seq, subject, failures, error "
        "FROM outbox WHERE published_at IS NULL ORDER BY created_at LIMIT 1"
    )
    return Unpublished(**row) if row else None


async def count_published(conn: Connection | Pool, service: str, age: timedelta) -> Messages:
    """Count the messages in the outbox of a service that were published longer than `age` ago."""
    (row,) = await conn.fetch(
        f"SELECT count(*), coalesce(sum(octet_length(body)), 0)::bigint FROM {service}.outbox "
        "WHERE published_at < clock_timestamp() - $1::interval",
        age,
    )
    return Messages(*row)


async def delete_published(conn: Connection | Pool, service: str, age: timedelta) -> Messages:
    """Delete the messages that `count_published` counts, some at a time."""
    count = size = 0
    while True:
        (row,) = await conn.fetch(
            f"WITH deleted AS (DELETE FROM {service}.outbox WHERE seq IN (SELECT seq FROM {service}.outbox "
            "WHERE published_at < clock_timestamp() - $1::interval ORDER BY seq LIMIT $2 FOR UPDATE SKIP LOCKED) "
            "RETURNING octet_length(body) AS size) SELECT count(*), coalesce(sum(size), 0)::bigint FROM deleted",
            age,
            DELETED_AT_ONCE,
        )
        count, size = count + row[0], size + row[1]
        if row[0] < DELETED_AT_ONCE:
            return Messages(count, size)
