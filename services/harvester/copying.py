"""COPY from and to the database, in batches of lines; what stands in a line is read in `copied`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from shared.storage.postgres import Connection


async def copy_out(
    conn: Connection, query: str, *values: Any, batch: int, take: Callable[[list[bytes]], Awaitable[None]]
) -> None:
    """Give `take` the rows of a query, `batch` at a time; the server waits meanwhile."""
    rest = b""
    rows: list[bytes] = []

    async def sort_out(data: bytes) -> None:
        nonlocal rest, rows
        *whole, rest = (rest + data).split(b"\n")
        rows += whole
        while len(rows) >= batch:
            ready, rows = rows[:batch], rows[batch:]
            await take(ready)

    await conn.copy_from_query(query, *values, output=sort_out)
    if rows:
        await take(rows)


async def copy_in(conn: Connection, table: str, columns: Sequence[str], rows: Sequence[bytes]) -> None:
    """Append rows, each a line without its end."""

    async def data() -> AsyncIterator[bytes]:
        yield b"\n".join(rows) + b"\n"

    await conn.copy_to_table(table, source=data(), columns=columns)
