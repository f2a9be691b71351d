"""Dead letters: messages that can never be handled as they are, stored as bytes to be read and replayed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog

from shared.contracts.text import clean
from shared.storage.postgres import UNREACHABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.storage.postgres import Connection, Pool

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter of the service that could not handle it; a service has them in the schema of its name.

    `digest` (SHA-256) and `size` are those of the body. A reduced letter has neither body nor headers.
    """

    service: str
    id: int
    subject: str
    body: bytes | None
    headers: dict[str, str]
    digest: bytes
    size: int
    error: str
    died_at: datetime
    replayed_at: datetime | None

    @property
    def name(self) -> str:
        return f"{self.service}/{self.id}"


async def record_dead_letter(
    conn: Connection | Pool, subject: str, body: bytes, headers: Mapping[str, str], error: str, delivery: str
) -> None:
    """Store a message with its error; the same `delivery` (stream and sequence) is stored once.

    Where its content makes that fail, a reduced letter is stored. Raises UNREACHABLE errors, and what keeps a reduced
    letter from being stored.
    """
    try:
        # JSON in ASCII holds every text, also one that PostgreSQL and UTF-8 do not.
        await _insert(conn, subject, body, json.dumps(dict(headers)).encode(), body, error, delivery)
    except UNREACHABLE:
        raise
    except Exception as failed:
        log.warning("dead letter reduced", subject=subject, delivery=delivery, error=type(failed).__name__)
        reason = f"{error} (kept without its body and headers: {type(failed).__name__})"
        await _insert(conn, subject, None, None, body, reason, delivery)


async def _insert(
    conn: Connection | Pool,
    subject: str,
    kept: bytes | None,
    headers: bytes | None,
    body: bytes,
    error: str,
    delivery: str,
) -> None:
    await conn.execute(
        "INSERT INTO dead_letter (subject, body, headers, digest, size, error, delivery) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (delivery) DO NOTHING",
        clean(subject),
        kept,
        headers,
        hashlib.sha256(body).digest(),
        len(body),
        clean(error),
        delivery,
    )


async def list_dead_letters(conn: Connection | Pool, service: str) -> list[DeadLetter]:
    """The dead letters of one service, oldest first."""
    rows = await conn.fetch(
        "SELECT id, subject, body, headers, digest, size, error, died_at, replayed_at "
        f"FROM {service}.dead_letter ORDER BY id"
    )
    return [_letter(service, row) for row in rows]


def _letter(service: str, row: Any) -> DeadLetter:
    return DeadLetter(service, **{**row, "headers": json.loads(row["headers"] or b"{}")})


async def mark_replayed(conn: Connection | Pool, letter: DeadLetter) -> None:
    await conn.execute(
        f"UPDATE {letter.service}.dead_letter SET replayed_at = clock_timestamp() WHERE id = $1", letter.id
    )
