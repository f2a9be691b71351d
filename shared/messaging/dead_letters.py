"""Dead letters: messages that can never be handled as they are, stored whole to be read and replayed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.storage.postgres import Connection, Pool


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter of the service that could not handle it; a service has them in the schema of its name."""

    service: str
    id: int
    subject: str
    body: bytes
    headers: dict[str, str]
    error: str
    died_at: datetime
    replayed_at: datetime | None

    @property
    def name(self) -> str:
        return f"{self.service}/{self.id}"


async def record_dead_letter(
    conn: Connection | Pool, subject: str, body: bytes, headers: dict[str, str], error: str, delivery: str
) -> None:
    """Store a message with its error; the same `delivery` (stream and sequence) is stored once."""
    await conn.execute(
        "INSERT INTO dead_letter (subject, body, headers, error, delivery) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (delivery) DO NOTHING",
        subject,
        body,
        headers,
        error,
        delivery,
    )


async def list_dead_letters(conn: Connection | Pool, service: str) -> list[DeadLetter]:
    """The dead letters of one service, oldest first."""
    rows = await conn.fetch(
        f"SELECT id, subject, body, headers, error, died_at, replayed_at FROM {service}.dead_letter ORDER BY id"
    )
    return [DeadLetter(service, **row) for row in rows]


async def mark_replayed(conn: Connection | Pool, letter: DeadLetter) -> None:
    await conn.execute(
        f"UPDATE {letter.service}.dead_letter SET replayed_at = clock_timestamp() WHERE id = $1", letter.id
    )
