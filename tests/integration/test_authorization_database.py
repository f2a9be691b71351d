"""Every role with every operation on the real PostgreSQL: what is not in the table is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from deploy.cli.connect import database
from deploy.cli.errors import UserError
from deploy.roles import ROLES, grant
from deploy.services import SERVICES
from shared.config.settings import Settings
from shared.contracts.karma import LARGEST_RECORD
from shared.storage.postgres import MIGRATIONS_LOCK
from tests.support.authorization import Attempt, compare, connected

OTHERS = tuple(role for role in ROLES if role not in SERVICES)
KARMA = {"id": "'k'", "persona": "'p'", "messages": "'[]'", "session": "'s'"}
FACT_COLUMNS = "event_id, ritual, subject, step, owner, attempt, state_before, state_after, body, started_at"
NO_FACT = "gen_random_uuid(), gen_random_uuid(), '', '', '', 1, '', '', '{}'::jsonb, now()"


def insert(table: str, **values: str) -> str:
    return f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(values.values())})"


def karma(**values: str) -> str:
    return insert("vectors.karma", **KARMA, **values)


# Operation -> SQL, which is right but for the role: each is rolled back.
OPERATIONS = {
    "karma: insert, status left out": karma(),
    "karma: insert, naming a status": karma(status="'speculative'"),
    "karma: insert a white truth": karma(status="'white_truth'", consecrated_by="'me'"),
    "karma: insert, naming who consecrated it": karma(consecrated_by="'me'", consecrated_at="now()"),
    "karma: insert or overwrite": f"{karma()} ON CONFLICT (id) DO UPDATE SET messages = excluded.messages",
    "karma: consecrate": "UPDATE vectors.karma SET status = 'white_truth', consecrated_by = 'me'",
    "karma: revoke": "UPDATE vectors.karma SET status = 'revoked'",
    "karma: change the words": "UPDATE vectors.karma SET messages = '[]'",
    "karma: delete": "DELETE FROM vectors.karma",
    "karma: empty the table": "TRUNCATE vectors.karma",
    "karma: read": "SELECT messages FROM vectors.karma",
    "karma: read ids": "SELECT id FROM vectors.karma",
    "karma: copy out": "COPY vectors.karma TO STDOUT",
    "karma: lock the table": "LOCK TABLE vectors.karma IN ACCESS EXCLUSIVE MODE",
    "karma: switch off the trigger that keeps revocations": "ALTER TABLE vectors.karma DISABLE TRIGGER keep_revoked",
    "karma: add a trigger": "CREATE TRIGGER t BEFORE INSERT ON vectors.karma EXECUTE FUNCTION vectors.keep_revoked()",
    "karma: drop the table": "DROP TABLE vectors.karma",
    "revocation: insert": insert("harvester.revocation", karma="'k'", revoked_by="'me'"),
    "revocation: delete": "DELETE FROM harvester.revocation",
    "ledger: read rituals": "SELECT * FROM public.ritual",
    "ledger: read facts": "SELECT * FROM public.ritual_fact",
    "ledger: read errors": "SELECT * FROM public.ritual_error",
    "ledger: open a ritual": "INSERT INTO public.ritual (id, intent_id, persona, intent, priority, state, trace_id) "
    "VALUES (gen_random_uuid(), 'i', 'p', '{}', 5, 'intended', 't')",
    "ledger: move a ritual": "UPDATE public.ritual SET state = 'awakened'",
    "ledger: cancel a ritual": "UPDATE public.ritual SET cancel_requested_at = now()",
    "ledger: pause a ritual": "UPDATE public.ritual SET paused_at = now(), paused_why = '', pause_changed_at = now()",
    "ledger: change an intent": "UPDATE public.ritual SET intent = '{}'",
    "ledger: delete a ritual": "DELETE FROM public.ritual",
    "ledger: record a fact": f"INSERT INTO public.ritual_fact ({FACT_COLUMNS}) SELECT {NO_FACT} WHERE false",
    "ledger: change a fact": "UPDATE public.ritual_fact SET body = '{}'",
    "ledger: mark a fact as exported": "UPDATE public.ritual_fact SET exported_at = now()",
    "ledger: delete a fact": "DELETE FROM public.ritual_fact",
    "ledger: delete an error": "DELETE FROM public.ritual_error",
    "lease: read": "SELECT * FROM public.lease",
    "lease: take": insert("public.lease", anvil="'a'"),
    "lease: renew": "UPDATE public.lease SET expires_at = 'infinity'",
    "lease: delete": "DELETE FROM public.lease",
    "heartbeat: record": insert("public.service_heartbeat", service="'s'"),
    "migrations: read": "SELECT * FROM public.migration",
    "migrations: change": "DELETE FROM public.migration",
    "view unserved_version: read": "SELECT * FROM public.unserved_version",
    "view champion: read": "SELECT * FROM public.champion",
    "view karma_source: read": "SELECT * FROM public.karma_source",
    "view ritual_decision: read": "SELECT * FROM public.ritual_decision",
    "view registry.served: read": "SELECT * FROM registry.served",
    "view registry.withdrawal: read": "SELECT * FROM registry.withdrawal",
    "registry: read versions": "SELECT * FROM registry.version",
    "registry: move an alias": "UPDATE registry.alias SET previous = NULL",
    "registry: delete an alias": "DELETE FROM registry.alias",
    "registry: record a decision": insert(
        "registry.decision", persona="'p'", action="'pin'", by="'me'", why="''"
    ).replace(" by,", ' "by",'),
    "registry: change a decision": "UPDATE registry.decision SET why = ''",
    "registry: delete a decision": "DELETE FROM registry.decision",
    "registry: withdraw a version": "UPDATE registry.version SET withdrawn_at = now()",
    "registry: change the adapter of a version": "UPDATE registry.version SET adapter = ''",
    "registry: forget a taint": "DELETE FROM registry.taint",
    "gateway: read capabilities": "SELECT * FROM gateway.capability",
    "gateway: announce a capability": insert(
        "gateway.announced",
        persona="'p'",
        model="'p'",
        version="'p@a'",
        adapter="'d'",
        ritual="gen_random_uuid()",
        base="'b'",
        context_limit="1",
        address="'a'",
    ),
    "gateway: withdraw a capability": "DELETE FROM gateway.announced",
    "gateway: read keys": "SELECT * FROM gateway.api_key",
    "gateway: add a key": insert(
        "gateway.api_key", id="'k'", name="'n'", hash="repeat('0', 64)", scopes="ARRAY['admin']"
    ),
    "gateway: revoke a key": "UPDATE gateway.api_key SET revoked_at = now()",
    "gateway: record the use of a key": "UPDATE gateway.api_key SET last_used_at = now()",
    "gateway: change what a key allows": "UPDATE gateway.api_key SET scopes = ARRAY['admin']",
    "gateway: delete a key": "DELETE FROM gateway.api_key",
    "orchestrator: reclaim an anvil": insert(
        "orchestrator.reclaim", anvil="'a'", why="''", requested_at="now()", until="now()"
    ),
    "orchestrator: end a containment": "DELETE FROM orchestrator.containment",
    "verifier: record a look": "INSERT INTO verifier.look (ritual, persona, sessions) SELECT gen_random_uuid(), 'p', '{}' WHERE false",
    "verifier: record what a look showed": "UPDATE verifier.look SET learned = true",
    "verifier: change what a look was at": "UPDATE verifier.look SET sessions = '{}'",
    "verifier: forget a look": "DELETE FROM verifier.look",
    "harvester: read what is sealed": "SELECT * FROM harvester.sealed",
    "harvester: read golden paths": "SELECT * FROM harvester.golden_path",
    **{f"{service}: read the outbox": f"SELECT * FROM {service}.outbox" for service in SERVICES},
    **{
        f"{service}: write the outbox": insert(
            f"{service}.outbox", event_id="gen_random_uuid()", subject="'s'", body="''"
        )
        for service in SERVICES
    },
    **{f"{service}: prune the outbox": f"DELETE FROM {service}.outbox" for service in SERVICES},
    **{f"{service}: read dead letters": f"SELECT * FROM {service}.dead_letter" for service in SERVICES},
    **{
        f"{service}: mark a dead letter": f"UPDATE {service}.dead_letter SET replayed_at = now()"
        for service in SERVICES
    },
    **{f"{service}: delete dead letters": f"DELETE FROM {service}.dead_letter" for service in SERVICES},
    **{f"{schema}: create a table": f"CREATE TABLE {schema}.t ()" for schema in ("public", "vectors", *SERVICES)},
    "traces: create a table": "CREATE TABLE traces.t ()",
    "queue: create a table": "CREATE TABLE queue.t ()",
    "make a temporary table": "CREATE TEMPORARY TABLE t ()",
    "make a function in public": "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "make a temporary function": "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "make a function in C": "CREATE FUNCTION pg_catalog.f() RETURNS int LANGUAGE c AS 'libc', 'getpid'",
    "replace a function of ours": "CREATE OR REPLACE FUNCTION vectors.keep_revoked() RETURNS trigger LANGUAGE plpgsql "
    "AS 'BEGIN RETURN NEW; END'",
    "make a schema": "CREATE SCHEMA s",
    "set the database": "ALTER DATABASE soulforge SET search_path = s",
    "drop an extension": "DROP EXTENSION vector CASCADE",
    "make a role": "CREATE ROLE r",
    "become superuser": "ALTER ROLE current_user SUPERUSER",
    "set the password of bootstrap": "ALTER ROLE soulforge PASSWORD 'x'",
    "become a member of another": "GRANT soulforge_owner TO soulforge_publisher",
    "act as the bootstrap role": "SET ROLE soulforge",
    "act as another": "SET SESSION AUTHORIZATION soulforge",
    "let everybody read karma": "DO $$ BEGIN GRANT SELECT ON vectors.karma TO PUBLIC; "
    "IF NOT has_table_privilege('soulforge_phoenix', 'vectors.karma', 'SELECT') THEN "
    "RAISE insufficient_privilege; END IF; END $$",  # a grant without the right to it is only a warning
    "run a program": "COPY (SELECT 1) TO PROGRAM 'true'",
    "write a file": "COPY (SELECT 1) TO '/dev/null'",
    "read a file": "SELECT pg_read_file('postgresql.conf')",
    "list a folder": "SELECT pg_ls_dir('.')",
    "import a file": "SELECT lo_import('/etc/hostname')",
    "create a large object": "SELECT lo_create(0)",
    "store a large object": "SELECT lo_from_bytea(0, 'x')",
    "set the server": "SELECT set_config('log_statement', 'all', false)",
    "switch off triggers": "SET session_replication_role = replica",
    "read password hashes": "SELECT rolpassword FROM pg_authid",
    "end a session of another": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'target'",
    "hold the lock of migrations": f"SELECT pg_try_advisory_xact_lock({MIGRATIONS_LOCK})",
}


async def test_each_role_may_do_what_the_table_has_and_nothing_else(settings: Settings) -> None:
    target = await asyncpg.connect(settings.database_url("bootstrap"), server_settings={"application_name": "target"})
    attempts: list[Attempt] = []
    try:
        for role in (*SERVICES, *OTHERS):
            connection = await asyncpg.connect(settings.database_url(role))
            for operation, statement in OPERATIONS.items():
                attempts.append(Attempt(role, operation, await allows(connection, statement)))
            await connection.close()
    finally:
        await target.close()
    compare(
        "database",
        "Who may do what in the database",
        "Tried on the real server, one role after another. The role `soulforge` (bootstrap) is left out: it owns every table,\n"
        "and applies migrations and grants ([grants.sql](../../deploy/grants.sql)). `phoenix` keeps traces; `worker` runs the jobs\n"
        "of SAQ's queues, and the orchestrator holds them with it. The owner may delete karma; nobody deletes a fact.",
        attempts,
    )


async def allows(connection: asyncpg.Connection[Any], statement: str) -> bool:
    """Try it and undo it. What is refused for another reason than a missing right fails the test."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return False
    finally:
        await transaction.rollback()
    return True


@pytest.mark.parametrize(
    "broken",
    [
        *(
            {column: f"repeat('x', {LARGEST_RECORD})"}
            for column in ("why", "source", "licence", "kind", "parent", "trace_id")
        ),
        {"messages": f"to_jsonb(array[repeat('x', {LARGEST_RECORD})])"},
        {"outcome": f"jsonb_build_object('evidence', repeat('x', {LARGEST_RECORD}))"},
        {"tools": f"to_jsonb(array[repeat('x', {LARGEST_RECORD})])"},
        {"purposes": f"array[repeat('x', {LARGEST_RECORD})]"},
        {"embedding": "'[1]'", "embedding_model": f"repeat('x', {LARGEST_RECORD})"},
        {"id": "''"},
        {"id": "repeat('x', 201)"},
        {"session": "''"},
        {"session": "repeat('x', 201)"},
        {"persona": "'Not A Name'"},
        {"persona": "'p' || chr(10)"},
    ],
    ids=lambda broken: "-".join(broken),
)
async def test_a_publisher_inserts_no_row_that_a_record_may_not_be(settings: Settings, broken: dict[str, str]) -> None:
    async with connected(settings, "publisher") as connection:
        with pytest.raises(asyncpg.CheckViolationError):
            await allows(connection, insert("vectors.karma", **{**KARMA, **broken}))


async def test_a_publisher_inserts_the_largest_record(settings: Settings) -> None:
    async with connected(settings, "publisher") as connection:
        assert await allows(connection, karma(why=f"repeat('x', {LARGEST_RECORD} - 100)"))


async def test_nobody_but_bootstrap_owns_anything_and_everybody_has_nothing(settings: Settings) -> None:
    async with connected(settings, "bootstrap") as connection:
        owners = await connection.fetch(
            "SELECT c.oid::regclass::text, pg_get_userbyid(relowner) AS owner FROM pg_class c JOIN pg_namespace n "
            "ON n.oid = relnamespace WHERE nspname = ANY ($1) AND pg_get_userbyid(relowner) <> 'soulforge'",
            ["public", "vectors", *SERVICES],
        )
        rights = await connection.fetch(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'soulforge\\_%' AND (rolsuper OR "
            "rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)"
        )
        members = await connection.fetch("SELECT * FROM pg_auth_members WHERE member::regrole::text LIKE 'soulforge%'")
        # A function with its owner's rights must not find what its caller put in the way.
        hijacked = await connection.fetch(
            "SELECT oid::regprocedure::text FROM pg_proc WHERE prosecdef AND proowner <> 10 AND proconfig IS NULL"
        )
    assert (owners, rights, members, hijacked) == ([], [], [], [])


async def test_what_was_taken_away_comes_back_and_what_was_added_goes_at_the_next_start(settings: Settings) -> None:
    async with connected(settings, "bootstrap") as connection:
        await connection.execute(
            "REVOKE ALL ON public.ritual FROM soulforge_harvester, soulforge_owner; GRANT SELECT ON vectors.karma TO soulforge_publisher;"
            "GRANT SELECT (messages) ON vectors.karma TO PUBLIC; ALTER ROLE soulforge_forge NOLOGIN"
        )
    with pytest.raises(UserError, match=r"permission denied for table ritual.*: run `soulforge migrate`"):
        async with database(settings) as pool:
            await pool.fetch(OPERATIONS["ledger: read rituals"])
    await grant(settings)
    async with connected(settings, "publisher") as connection:
        assert not await allows(connection, OPERATIONS["karma: read"])
    async with connected(settings, "harvester") as connection:
        assert await allows(connection, OPERATIONS["ledger: read rituals"])
    async with connected(settings, "forge"):
        pass


async def test_a_start_waits_for_no_table_where_the_grants_are_in_force(settings: Settings) -> None:
    await grant(settings)
    async with connected(settings, "bootstrap") as connection, connection.transaction():
        await connection.execute("LOCK TABLE vectors.karma, public.ritual IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(5):
            await grant(settings)
