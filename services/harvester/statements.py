"""Statements of a decision, in which names in braces stand for the tables of this harvest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shared.storage.postgres import Connection

#: Of a decision: those that are kept with it, and those that are gone when it is made.
KEPT = ("joined", "cut", "cluster", "shared_gram", "stretch", "tally")
PASSING = (
    "wanted", "sealed_lineage", "repeated", "seen", "fresh", "changed", "touched_session", "affected", "more", "near_text",
    "gram", "standing", "contaminated", "differing", "dirty",
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """Runs statements: `{decided}` is the table of the decisions, `{joined}` and so on are those of KEPT and PASSING.

    With `kept`, an earlier decision, `{kept}` is its table and `{kept_joined}` and so on are its others. They are no
    temporary tables: PostgreSQL's parallel workers do not see those.
    """

    conn: Connection
    table: str
    kept: str = ""

    @property
    def names(self) -> dict[str, str]:
        own = {"decided": self.table} | {name: f"{self.table}_{name}" for name in (*KEPT, *PASSING)}
        if not self.kept:
            return own
        return own | {"kept": self.kept} | {f"kept_{name}": f"{self.kept}_{name}" for name in KEPT}

    def said(self, sql: str) -> str:
        for name, full in self.names.items():
            sql = sql.replace(f"{{{name}}}", full)
        return sql

    async def run(self, sql: str, *values: Any) -> int:
        """How many rows the statement concerned, where it says so."""
        status = await self.conn.execute(self.said(sql), *values)
        count = status.rsplit(" ", 1)[-1]
        return int(count) if count.isdigit() else 0

    async def value(self, sql: str, *values: Any) -> Any:
        return await self.conn.fetchval(self.said(sql), *values)

    async def fill(self, name: str, columns: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Make a table of its own of rows that come from here."""
        await self.run(f"CREATE UNLOGGED TABLE {{{name}}} ({columns})")
        schema, full = self.names[name].split(".")
        await self.conn.copy_records_to_table(full, schema_name=schema, records=rows)
        await self.run(f"ANALYZE {{{name}}}")

    async def clear(self, *names: str) -> None:
        await self.conn.execute(f"DROP TABLE IF EXISTS {', '.join(self.names[name] for name in names)}")


async def drop(conn: Connection, table: str) -> None:
    """Everything of a decision."""
    await Step(conn, table).clear("decided", *KEPT, *PASSING)


def quoted(reasons: Iterable[str]) -> str:
    """As a list of SQL."""
    return ", ".join(f"'{reason}'" for reason in reasons)
