"""Dead letters: messages that can never be handled as they are, kept whole so that they can be read and replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared.storage.postgres import Connection, Pool


async def record_dead_letter(
    conn: Connection | Pool, subject: str, body: bytes, headers: dict[str, str], error: str, delivery: str
) -> None:
    """Keep a message with what was wrong; the same `delivery` (stream and sequence) is kept once."""
    await conn.execute(
        "INSERT INTO dead_letter (subject, body, headers, error, delivery) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (delivery) DO NOTHING",
        subject,
        body,
        headers,
        error,
        delivery,
    )


async def listed(conn: Connection | Pool, schema: str) -> list[dict[str, Any]]:
    """The dead letters of one service, oldest first."""
    rows = await conn.fetch(
        f"SELECT id, subject, body, headers, error, died_at, replayed_at FROM {schema}.dead_letter ORDER BY id"
    )
    return [dict(row) for row in rows]


async def mark_replayed(conn: Connection | Pool, schema: str, letter: int) -> None:
    await conn.execute(f"UPDATE {schema}.dead_letter SET replayed_at = clock_timestamp() WHERE id = $1", letter)
