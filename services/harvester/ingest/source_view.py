"""Take over karma of another table: a SQL view with the contract's columns, taken over before each harvest.

The view is checked at start. A row is taken over as it is, but for a revocation, which is for good.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
import structlog

from shared.contracts.karma import LARGEST_RECORD, PERSONA_PATTERN
from shared.storage.postgres import UNREACHABLE

if TYPE_CHECKING:
    from shared.storage.postgres import Connection, Pool

log = structlog.get_logger()

NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}\.[a-z_][a-z0-9_]{0,62}")
SETTING = "harvest.view in soulforge.toml"
PATIENCE_S = 600.0  # a first absorption of a million rows takes minutes
NAMED = 5  # ids of refused rows that are logged
MINILM = ("all-MiniLM-L6-v2", 384)  # the one model whose rows an index casts to its dimension


class ViewError(Exception):
    """The configured view cannot be read as karma; the message names the column and what is needed."""


@dataclass(frozen=True)
class Column:
    """One column of the contract: its type, and what a row without it is given."""

    type: str
    default: str | None = None  #: SQL; None where the view must have the column
    sound: str | None = None  #: SQL that is true of every VALUE that may be stored

    @property
    def types(self) -> tuple[str, ...]:
        return ("text", "character varying") if self.type == "text" else (self.type,)


_NAME_FITS = "VALUE IS NOT NULL AND length(VALUE) BETWEEN 1 AND 200"
_TIME_FITS = "VALUE >= '1900-01-01 UTC' AND VALUE < '3000-01-01 UTC'"
COLUMNS = {
    "id": Column("text", sound=_NAME_FITS),
    "persona": Column("text", sound=f"VALUE IS NOT NULL AND VALUE ~ '{PERSONA_PATTERN}'"),
    "messages": Column("jsonb", sound="VALUE IS NOT NULL AND jsonb_typeof(VALUE) = 'array'"),
    "status": Column(
        "text", sound="VALUE IS NOT NULL AND VALUE IN ('speculative', 'white_truth', 'rejected', 'revoked')"
    ),
    "session": Column("text", sound=_NAME_FITS),
    "created_at": Column("timestamp with time zone", sound=f"VALUE IS NOT NULL AND {_TIME_FITS}"),
    "outcome": Column("jsonb", "'{}'::jsonb", "jsonb_typeof(VALUE) = 'object'"),
    "why": Column("text", "''"),
    "consecrated_by": Column("text", "NULL::text", "status <> 'white_truth' OR coalesce(VALUE, '') <> ''"),
    "consecrated_at": Column("timestamp with time zone", "NULL::timestamptz", f"VALUE IS NULL OR {_TIME_FITS}"),
    "parent": Column("text", "NULL::text", "VALUE IS NULL OR length(VALUE) <= 200"),
    "source": Column("text", "''"),
    "licence": Column("text", "'owner'"),
    "kind": Column("text", "'interaction'", "length(VALUE) BETWEEN 1 AND 60"),
    "tools": Column("jsonb", "'[]'::jsonb", "jsonb_typeof(VALUE) = 'array'"),
    "purposes": Column("text[]", "'{train}'::text[]"),
    "feedback": Column("text", "NULL::text", "VALUE IS NULL OR VALUE IN ('up', 'down')"),
    "trace_id": Column("text", "NULL::text"),
    "embedding": Column("vector", "NULL::vector"),
    "embedding_model": Column("text", "NULL::text"),
}
EMBEDDING = ("embedding", "embedding_model")
CONTENT = tuple(name for name in COLUMNS if name not in EMBEDDING)
_TOO_LARGE = f"octet_length(concat({', '.join((*CONTENT, 'embedding_model'))})) > {LARGEST_RECORD}"


async def check_view(conn: Connection, name: str) -> None:
    """Raise ViewError unless `name` is a view (or table) that this user may read, with the contract's columns."""
    await _columns(conn, name)


async def _columns(conn: Connection, name: str) -> set[str]:
    """The contract's columns that the view has. Raises ViewError naming the first that is missing or of another type."""
    if not NAME.fullmatch(name):
        raise ViewError(f"{SETTING}: expected schema.view in small letters, digits and _, e.g. lychd.karma_records")
    try:
        oid = await conn.fetchval("SELECT to_regclass($1)::oid", _quoted(name))
    except asyncpg.InsufficientPrivilegeError:
        raise ViewError(f"{SETTING}: this user may not look into the schema of {name}: GRANT USAGE ON it") from None
    if oid is None:
        raise ViewError(f"{SETTING} is {name}, which does not exist in this database: create the view or unset it")
    if not await conn.fetchval("SELECT has_table_privilege($1::oid, 'SELECT')", oid):
        raise ViewError(f"{SETTING}: the view {name} may not be read by this user: GRANT SELECT ON {name}")
    rows = await conn.fetch(
        "SELECT attname, format_type(atttypid, NULL) AS type FROM pg_attribute "
        "WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped",
        oid,
    )
    found = {row["attname"]: row["type"].removeprefix("public.") for row in rows}
    if fault := view_fault(found):
        raise ViewError(f"{SETTING}: the view {name} {fault}")
    return found.keys() & COLUMNS.keys()


def view_fault(found: dict[str, str]) -> str | None:
    """What is wrong with these columns (name -> type); None when they are the contract's."""
    for name, column in COLUMNS.items():
        needed = "timestamptz" if column.type.startswith("timestamp") else column.type
        if name not in found and column.default is None:
            return f"lacks the column {name} of type {needed}"
        if name in found and found[name] not in column.types:
            return f"has the column {name} of type {found[name]}: it must be {needed}"
    if len(found.keys() & set(EMBEDDING)) == 1:
        return "has one of embedding and embedding_model: it must have both or neither"
    return None


async def absorb(pool: Pool, name: str) -> int:
    """Take over what is new or changed in the view; how many rows were written. Repeatable. Raises ViewError.

    A row that breaks a rule of the table is left out, counted and named in the log; a row that is gone upstream stays;
    one that is revoked on either side is revoked here for good.
    """
    async with pool.acquire() as conn, conn.transaction():
        has = await _columns(conn, name)
        await conn.execute(
            f"SET LOCAL statement_timeout = '{PATIENCE_S:.0f}s'; SET LOCAL soulforge.revoked_by = '{name}'"
        )
        try:
            row = await conn.fetchrow(_absorb_sql(name, has), timeout=PATIENCE_S)
        except UNREACHABLE:
            raise
        except asyncpg.PostgresError as error:
            # Not its words: they may quote a row.
            raise ViewError(f"the view {name} cannot be read ({type(error).__name__} {error.sqlstate})") from None
    assert row is not None, "an aggregate has a row"
    if row["refused"]:
        log.warning("rows of the view left out", view=name, rows=row["refused"], examples=row["examples"])
    if row["stored"]:
        log.info("karma of the view absorbed", view=name, rows=row["stored"], revoked=row["revoked"])
    return int(row["stored"])


def _absorb_sql(name: str, has: set[str]) -> str:
    content = [column for column in CONTENT if column in has]
    taken = ", ".join(f"{column} = excluded.{column}" for column in content if column != "id")
    before, after = (", ".join(f"{row}.{column}" for column in content) for row in ("k", "excluded"))
    return f"""
        WITH upstream AS MATERIALIZED (
            SELECT *, {_fault()} AS fault FROM (SELECT {_taken_over(has)} FROM {_quoted(name)}) AS v
        ), sound AS (
            SELECT DISTINCT ON (id) * FROM upstream u
            WHERE fault IS NULL AND NOT EXISTS (SELECT FROM harvester.revocation r WHERE r.karma = u.id)
            ORDER BY id, created_at DESC, messages
        ), stored AS (
            INSERT INTO vectors.karma AS k ({", ".join(COLUMNS)})
            SELECT {", ".join(CONTENT)}, {_embedding("embedding")}, {_embedding("embedding_model")} FROM sound
            ON CONFLICT (id) DO UPDATE SET {taken}, {_kept("embedding")}, {_kept("embedding_model")}
            WHERE k.status <> 'revoked' AND (
                ({before}) IS DISTINCT FROM ({after})
                OR excluded.embedding IS NOT NULL
                   AND (k.embedding, k.embedding_model) IS DISTINCT FROM (excluded.embedding, excluded.embedding_model)
            )
            RETURNING id, status
        ), noted AS (
            INSERT INTO harvester.revocation (karma, revoked_by, why)
            SELECT id, '{name}', 'revoked in the view' FROM stored WHERE status = 'revoked'
            ON CONFLICT DO NOTHING
        )
        SELECT (SELECT count(*) FROM stored) AS stored,
               (SELECT count(*) FROM stored WHERE status = 'revoked') AS revoked,
               (SELECT count(*) FROM upstream WHERE fault IS NOT NULL) AS refused,
               (SELECT array_agg(left(id, 200) || ': ' || fault) FROM
                   (SELECT id, fault FROM upstream WHERE fault IS NOT NULL ORDER BY id LIMIT {NAMED}) AS few) AS examples
    """


def _quoted(name: str) -> str:
    return '"' + name.replace(".", '"."') + '"'


def _taken_over(has: set[str]) -> str:
    """The view's columns as the table's; what the view lacks or leaves NULL is the default."""
    return ", ".join(
        f"coalesce({column}::{kind.type}, {kind.default}) AS {column}"
        if column in has and kind.default
        else f"{column if column in has else kind.default}{'::' + kind.type if column in has else ''} AS {column}"
        for column, kind in COLUMNS.items()
    )


def _fault() -> str:
    """SQL that names the first column of a row that the table would refuse, or its size; NULL for a sound row."""
    rules = (
        f"WHEN NOT ({column.sound.replace('VALUE', name)}) THEN '{name}'"
        for name, column in COLUMNS.items()
        if column.sound
    )
    return f"CASE {' '.join(rules)} WHEN {_TOO_LARGE} THEN 'its size' END"


def _embedding(column: str) -> str:
    """An embedding without its model, or of another size than its model's index holds, is computed again instead."""
    model, size = MINILM
    fits = f"embedding_model <> '{model}' OR vector_dims(embedding) = {size}"
    return f"CASE WHEN embedding IS NOT NULL AND ({fits}) THEN {column} END AS {column}"


def _kept(column: str) -> str:
    """The view's embedding, else the one computed here as long as the messages are the same."""
    return (
        f"{column} = CASE WHEN excluded.embedding IS NOT NULL THEN excluded.{column} "
        f"WHEN k.messages = excluded.messages THEN k.{column} END"
    )
