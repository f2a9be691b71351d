"""The roles of the database, their passwords and their grants, restored at each start. `grants.sql` has who may do what."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from deploy.secret_files import get_secret, make_password
from deploy.services import SERVICES
from shared.storage.postgres import MIGRATIONS_LOCK, MigrationError

if TYPE_CHECKING:
    from shared.config.settings import Settings
    from shared.storage.postgres import Connection

# `owner` is the command line, `publisher` other components, `worker` the workers of SAQ and the hold on their queues.
ROLES = (*SERVICES, "owner", "publisher", "phoenix", "worker")
SCHEMAS = ("public", "vectors", *SERVICES)
RIGHTS = """
    SELECT string_agg(of, '\n' ORDER BY of) FROM (
        SELECT format('relation %s %s', oid, relacl) FROM pg_class WHERE relnamespace::regnamespace::text = ANY ($1)
        UNION ALL SELECT format('column %s %s %s', attrelid, attnum, attacl) FROM pg_attribute WHERE attacl IS NOT NULL
        UNION ALL SELECT format('schema %s %s', nspname, nspacl) FROM pg_namespace WHERE nspname = ANY ($1)
        UNION ALL SELECT format('database %s', datacl) FROM pg_database WHERE datname = current_database()
        UNION ALL SELECT format('function %s %s', oid, proacl) FROM pg_proc WHERE proacl IS NOT NULL
        UNION ALL SELECT format('role %s %s', rolname, rolconnlimit) FROM pg_roles WHERE rolname LIKE 'soulforge%'
    ) AS rights (of)
"""
GRANTS = Path(__file__).parent / "grants.sql"
CLOSED = Path(__file__).parent / "closed.sql"


async def grant(settings: Settings) -> None:
    """Restore roles, passwords and grants in a migrated database. Raises MigrationError where roles cannot be created.

    A database that takes no writes stays as it is, and so does one in which every part connects as one role.
    """
    if settings.database_roles == "one":
        return
    connection = await asyncpg.connect(settings.database_url("bootstrap"), timeout=10)
    try:
        if await connection.fetchval("SELECT current_setting('transaction_read_only')::boolean"):
            return
        # Another server may serve others, who rely on what it grants to everybody.
        statements = GRANTS.read_text() + (CLOSED.read_text() if settings.database is None else "")
        async with connection.transaction():
            await create_roles(connection, settings)
            if await connection.fetchval("SELECT digest FROM public.granted") != await _digest(connection, statements):
                await connection.execute(statements)
                await connection.execute("DELETE FROM public.granted")
                digest = await _digest(connection, statements)
                await connection.execute("INSERT INTO public.granted VALUES ($1)", digest)
    finally:
        await connection.close()


async def _digest(connection: Connection, statements: str) -> str:
    """A digest of the statements and of all rights in force. A grant waits for every table; this waits for none."""
    rights = await connection.fetchval(RIGHTS, SCHEMAS)
    return hashlib.sha256(f"{statements}{rights}".encode()).hexdigest()


async def create_roles(connection: Connection, settings: Settings) -> None:
    """Create the roles that are missing, set their passwords, and let them connect. Needs a transaction."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATIONS_LOCK)
    user = await _quoted(connection, "quote_ident(current_user)")
    try:
        for role in ROLES:
            await _set_role(
                connection, f"soulforge_{role}", get_secret(settings.database_password_file(role), make_password)
            )
    except asyncpg.InsufficientPrivilegeError as error:
        raise MigrationError(
            f"the roles of the database cannot be created ({error.args[0]}): run `ALTER ROLE {user} CREATEROLE` as a superuser, or "
            "set SOULFORGE_DATABASE_ROLES=one, which lets every part connect with all rights"
        ) from error
    database = await _quoted(connection, "quote_ident(current_database())")
    names = ", ".join(f"soulforge_{role}" for role in ROLES)
    await connection.execute(
        f"GRANT CONNECT ON DATABASE {database} TO {names};"
        f"GRANT TEMPORARY ON DATABASE {database} TO soulforge_harvester, soulforge_owner;"
        "CREATE SCHEMA IF NOT EXISTS traces; GRANT USAGE, CREATE ON SCHEMA traces TO soulforge_phoenix;"
        "ALTER ROLE soulforge_phoenix SET search_path = traces"
    )


async def _set_role(connection: Connection, name: str, password: str) -> None:
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", name):
        await connection.execute(f"CREATE ROLE {name}")
    await connection.execute(
        await _quoted(connection, "format('ALTER ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)", name, password)
    )


async def _quoted(connection: Connection, expression: str, *values: Any) -> str:
    return str(await connection.fetchval(f"SELECT {expression}", *values))
