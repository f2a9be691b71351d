"""PostgreSQL: the pool every process shares and the migrations, plain SQL files applied once per owner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

from shared.config.settings import SERVICES
from shared.storage.digests import digest_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Connection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]"
Pool: TypeAlias = "asyncpg.Pool[Any]"

MIGRATIONS_LOCK = 0x50554C  # one migrator at a time; any constant does

# What a lost, restarting, busy or full server looks like from asyncpg: it may pass, so it is tried again.
UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InsufficientResourcesError,
)


ANOTHER_VERSION = (
    "this home was made by another version of Soulforge, which this one does not read (its database has {name}): set "
    "SOULFORGE_HOME to a new directory, or move the old one away; where SOULFORGE_DATABASE is set, name an empty database"
)


class MigrationError(Exception):
    """The database is not at the schema that this code needs; the message says what to do."""


async def open_pool(
    url: str, schema: str, size: int = 5, limit_s: int = 30, settings: Mapping[str, str] | None = None
) -> Pool:
    """A pool whose unqualified table names mean `schema` first, `public` second. Raises UNREACHABLE errors.

    `limit_s` bounds each statement, and how long a transaction may lie idle; `settings` are more of the server's.
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


async def _teach_json(connection: Any) -> None:
    # In the binary form, which COPY needs: one byte for the version, then the text.
    await connection.set_type_codec(
        "jsonb",
        encoder=lambda value: b"\x01" + json.dumps(value).encode(),
        decoder=lambda data: json.loads(data[1:]),
        schema="pg_catalog",
        format="binary",
    )


async def migrate(url: str, root: Path) -> list[str]:
    """Apply what is missing, in order, and return the names applied. Safe to run from several processes at once.

    Raises MigrationError, having changed nothing, for a database of another version.
    """
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", MIGRATIONS_LOCK)
        await _refuse_another_version(connection, root)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS public.migration (owner text, name text, digest text NOT NULL, "
            "applied_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (owner, name))"
        )
        return [name for owner, path in _migrations(root) if (name := await _apply(connection, owner, path))]
    finally:
        await connection.close()


async def assert_own_version(url: str, root: Path) -> None:
    """Raise MigrationError for a database of another version; an empty one passes."""
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await _refuse_another_version(connection, root)
    finally:
        await connection.close()


async def assert_migrated(pool: Pool, owner: str, root: Path) -> None:
    """Raise MigrationError unless everything that `owner` needs was applied."""
    needed = {path.stem for migration_owner, path in _migrations(root) if migration_owner == owner}
    if not await pool.fetchval("SELECT to_regclass('public.migration') IS NOT NULL"):
        raise MigrationError("the database was never set up: run `soulforge migrate`")
    applied = {row["name"] for row in await pool.fetch("SELECT name FROM public.migration WHERE owner = $1", owner)}
    if missing := sorted(needed - applied):
        raise MigrationError(f"schema {owner} lacks {', '.join(missing)}: run `soulforge migrate`")


async def _refuse_another_version(connection: Any, root: Path) -> None:
    if not await connection.fetchval("SELECT to_regclass('public.migration') IS NOT NULL"):
        return
    own = {(owner, path.stem, digest_file(path)) for owner, path in _migrations(root)}
    # As JSON, for a table without digests is one of another version too.
    for row in await connection.fetch(
        "SELECT owner, name, to_jsonb(m) ->> 'digest' AS digest FROM public.migration m ORDER BY applied_at, owner, name"
    ):
        if tuple(row) not in own:
            raise MigrationError(ANOTHER_VERSION.format(name=f"{row['owner']}/{row['name']}"))


def _migrations(root: Path) -> Iterable[tuple[str, Path]]:
    for path in sorted((root / "shared/migrations/public").glob("*.sql")):
        yield "public", path
    for service in SERVICES:
        for path in sorted((root / "shared/migrations/service").glob("*.sql")):
            yield service, path
        for path in sorted((root / "services" / service / "migrations").glob("*.sql")):
            yield service, path


async def _apply(connection: Any, owner: str, path: Path) -> str | None:
    async with connection.transaction():
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {owner}")
        await connection.execute(f"SET LOCAL search_path = {owner}, public")
        fresh = await connection.fetchval(
            "INSERT INTO public.migration (owner, name, digest) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING true",
            owner,
            path.stem,
            digest_file(path),
        )
        if not fresh:
            return None
        await connection.execute(path.read_text())
        return f"{owner}/{path.stem}"
