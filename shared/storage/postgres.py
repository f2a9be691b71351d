"""PostgreSQL: connection pools, and migrations from plain SQL files, applied once per schema."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

from shared.storage.digests import digest_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Connection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]"
Pool: TypeAlias = "asyncpg.Pool[Any]"
Source: TypeAlias = "Connection | Pool"  # what a query that writes nothing can be asked of

MIGRATIONS_LOCK = 0x50554C  # one migrator at a time; any constant does

# What a lost, restarting, full or read-only server answers to everybody: no fault of what was asked.
SERVER_ERRORS = (
    ConnectionError,  # of a socket that broke or was refused
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DiskFullError,
    asyncpg.ReadOnlySQLTransactionError,
)
# All that a call may raise while the server is away. OSError and TimeoutError have other causes too: where these
# matter, ask whether the database answers.
UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InsufficientResourcesError,
    *SERVER_ERRORS,
)


ANOTHER_VERSION = (
    "this home was made by another version of Soulforge, which this one does not read (its database has {name}): set "
    "SOULFORGE_HOME to a new directory, or move the old one away; where SOULFORGE_DATABASE is set, name an empty database"
)


class MigrationError(Exception):
    """The database does not have the schema that this version needs; the message includes what to do."""


async def open_pool(
    url: str, schema: str, size: int = 5, limit_s: int = 30, settings: Mapping[str, str] | None = None
) -> Pool:
    """Open a pool that resolves table names in `schema`, then in `public`. Raises UNREACHABLE errors.

    `limit_s` bounds each statement and the idle time of a transaction; `settings` are further server settings.
    """
    return await asyncpg.create_pool(
        url,
        min_size=1,
        max_size=size,
        init=_teach_json,
        timeout=10,
        command_timeout=limit_s,
        server_settings={
            "search_path": f"{schema},public",
            "application_name": f"soulforge-{schema}",
            "statement_timeout": f"{limit_s}s",
            "lock_timeout": "5s",
            "idle_in_transaction_session_timeout": f"{limit_s}s",
            **(settings or {}),
        },
    )


async def is_read_only(pool: Pool) -> bool:
    """Whether the database takes no writes now: it is full, a standby, or was set so."""
    return bool(await pool.fetchval("SELECT current_setting('transaction_read_only')::boolean"))


async def _teach_json(connection: Any) -> None:
    # In the binary form, which COPY needs: one byte for the version, then the text.
    await connection.set_type_codec(
        "jsonb",
        encoder=lambda value: b"\x01" + json.dumps(value).encode(),
        decoder=lambda data: json.loads(data[1:]),
        schema="pg_catalog",
        format="binary",
    )


@dataclass(frozen=True)
class Migration:
    """A plain SQL file and the schema that it belongs to."""

    schema: str
    path: Path

    @property
    def name(self) -> str:
        return f"{self.schema}/{self.path.stem}"


async def migrate(url: str, migrations: Sequence[Migration]) -> list[str]:
    """Apply what is missing, in order, and return the names applied. Safe to run from several processes at once.

    Where nothing is missing nothing is written: a service starts also while the database is read-only. Raises
    MigrationError, having changed nothing, for a database of another version.
    """
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", MIGRATIONS_LOCK)
        await _refuse_another_version(connection, migrations)
        if not await _list_missing(connection, migrations):
            return []
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS public.migration (owner text, name text, digest text NOT NULL, "
            "applied_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (owner, name))"
        )
        return [migration.name for migration in migrations if await _apply(connection, migration)]
    finally:
        await connection.close()


async def check_version(url: str, migrations: Sequence[Migration]) -> None:
    """Raise MigrationError for a database of another version; an empty one passes."""
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await _refuse_another_version(connection, migrations)
    finally:
        await connection.close()


async def check_migrated(pool: Pool, migrations: Iterable[Migration]) -> None:
    """Raise MigrationError unless all of these were applied."""
    if missing := await _list_missing(pool, migrations):
        raise MigrationError(f"the database lacks {', '.join(missing)}: run `soulforge migrate`")


async def _list_missing(source: Any, migrations: Iterable[Migration]) -> list[str]:
    """The names of the migrations that were not applied; of all of them where the database is empty."""
    names = {migration.name for migration in migrations}
    if await source.fetchval("SELECT to_regclass('public.migration') IS NOT NULL"):
        names -= {
            f"{row['owner']}/{row['name']}" for row in await source.fetch("SELECT owner, name FROM public.migration")
        }
    return sorted(names)


async def _refuse_another_version(connection: Any, migrations: Sequence[Migration]) -> None:
    if not await connection.fetchval("SELECT to_regclass('public.migration') IS NOT NULL"):
        return
    own = {(migration.schema, migration.path.stem, digest_file(migration.path)) for migration in migrations}
    # As JSON, for a table without digests is one of another version too.
    for row in await connection.fetch(
        "SELECT owner, name, to_jsonb(m) ->> 'digest' AS digest FROM public.migration m ORDER BY applied_at, owner, name"
    ):
        if tuple(row) not in own:
            raise MigrationError(ANOTHER_VERSION.format(name=f"{row['owner']}/{row['name']}"))


async def _apply(connection: Any, migration: Migration) -> bool:
    async with connection.transaction():
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {migration.schema}")
        await connection.execute(f"SET LOCAL search_path = {migration.schema}, public")
        missing = await connection.fetchval(
            "INSERT INTO public.migration (owner, name, digest) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING true",
            migration.schema,
            migration.path.stem,
            digest_file(migration.path),
        )
        if missing:
            await connection.execute(migration.path.read_text())
        return bool(missing)
