"""SAQ's queues in PostgreSQL. SAQ has no pause: a trigger keeps its workers from taking the jobs of a held queue."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from shared.config.model import SaqConfig
from shared.drivers.queues.draining import drained
from shared.drivers.queues.port import QueueError, anvil_of

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any]

GATE = (Path(__file__).parent / "gate.sql").read_text()
VERSION = hashlib.sha256(GATE.encode()).hexdigest()
CALL_S = 10
LOCK_S = 5
INSTALLING = 0x534151  # advisory lock: one process at a time creates the gate; any constant does

INSTALLED = """
    SELECT EXISTS (
        SELECT FROM pg_trigger
        WHERE tgrelid = 'saq_jobs'::regclass AND tgname = 'soulforge_gate' AND tgenabled <> 'D'
          AND obj_description(tgfoid, 'pg_proc') = $1
    )
"""
HOLD = """
    INSERT INTO soulforge_hold (queue, holder, reason)
    SELECT queue, $2, $3 FROM unnest($1::text[]) AS queue
    ON CONFLICT DO NOTHING
"""
WAIT_FOR_DEQUEUES = """
    SELECT pg_advisory_xact_lock(hashtextextended($2 || '.' || queue, 0))
    FROM unnest($1::text[]) AS queue
"""
RELEASE = """
    WITH released AS (DELETE FROM soulforge_hold WHERE holder = $1 RETURNING queue)
    SELECT pg_notify('saq:' || queue, 'saq:enqueue') FROM released
"""
HELD = "SELECT DISTINCT holder FROM soulforge_hold ORDER BY holder"
ALL_HELD = "SELECT bool_and(EXISTS (SELECT FROM soulforge_hold WHERE queue = name)) FROM unnest($1::text[]) AS name"
ACTIVE = """
    SELECT queue, key, job FROM saq_jobs
    WHERE queue = ANY ($1) AND status IN ('active', 'aborting')
    ORDER BY queue, key
"""


WAITING = """
    SELECT count(*) FROM saq_jobs
    WHERE queue = ANY ($1) AND status = 'queued' AND scheduled <= extract(epoch FROM clock_timestamp())
"""


class SaqQueue:
    """The SAQ queues `config.names`, whose tables `saq_jobs` are in `config.schema_name`.

    A job whose worker died stays active until SAQ's sweep puts it back, after its own timeout. A thread that continues
    after SAQ gave up its job is not seen here; the device's memory is the last proof. The workers need SAQ 0.25 or
    newer (older ones keep a session lock on each job they read) and READ COMMITTED, PostgreSQL's default.
    """

    def __init__(self, config: SaqConfig, database_url: str) -> None:
        self.names = sorted(set(config.names))  # locked in this order: two holders at once do not block each other
        self.schema = config.schema_name
        self.grace_s = config.grace_s
        self.url = config.database or database_url

    async def hold(self, holder: str, reason: str = "") -> None:
        anvil_of(holder)
        async with self._database() as database:
            await self._install(database)
            await database.execute(HOLD, self.names, holder, reason)
            # A dequeue that began before the hold may not have committed yet; its jobs are not visible until then.
            await database.execute(WAIT_FOR_DEQUEUES, self.names, self.schema)

    async def active(self) -> int:
        return len(await self.running())

    async def waiting(self) -> int:
        async with self._database() as database:
            if await database.fetchval("SELECT to_regclass('saq_jobs') IS NULL"):
                return 0  # no worker was ever started
            return int(await database.fetchval(WAITING, self.names))

    async def running(self) -> tuple[str, ...]:
        async with self._database() as database:
            return await self._running(database)

    async def drained(self, grace_s: float | None = None) -> tuple[str, ...]:
        async with self._database() as database:
            if not await self._all_held(database):
                raise QueueError(f"queues {self._named} are not all held, so idle proves nothing: call hold first")
            return await drained(lambda: self._running(database), self.grace_s if grace_s is None else grace_s)

    async def release(self, holder: str) -> None:
        # By holder alone: queues that were removed from the configuration must not stay held for ever.
        async with self._database() as database:
            if await _was_ever_held(database):
                await database.execute(RELEASE, holder)

    async def held(self) -> tuple[str, ...]:
        async with self._database() as database:
            if not await _was_ever_held(database):
                return ()
            return tuple(row["holder"] for row in await database.fetch(HELD))

    async def _running(self, database: Connection) -> tuple[str, ...]:
        await self._assert_tables(database)
        rows = await database.fetch(ACTIVE, self.names)
        return tuple(describe(row["queue"], row["key"], row["job"], time.time()) for row in rows)

    async def _all_held(self, database: Connection) -> bool:
        return bool(await _was_ever_held(database) and await database.fetchval(ALL_HELD, self.names))

    async def _install(self, database: Connection) -> None:
        """Create the gate, or update it to this version. Waits for the writers of saq_jobs, and they wait for it."""
        await self._assert_tables(database)
        if await database.fetchval(INSTALLED, VERSION):
            return
        async with database.transaction():
            await database.execute("SELECT pg_advisory_xact_lock($1)", INSTALLING)
            await database.execute(GATE)
            await database.execute(f"COMMENT ON FUNCTION soulforge_gate IS '{VERSION}'")

    async def _assert_tables(self, database: Connection) -> None:
        if await database.fetchval("SELECT to_regclass('saq_jobs') IS NULL"):
            raise QueueError(
                f"there is no table {self.schema}.saq_jobs for the queues {self._named}: start their worker once, "
                "with `options=-csearch_path%3D" + self.schema + "` in its URL, or set `schema` in soulforge.toml"
            )

    @property
    def _named(self) -> str:
        return ", ".join(self.names)

    @asynccontextmanager
    async def _database(self) -> AsyncIterator[Connection]:
        """Connect to SAQ's own schema for one call and turn errors of PostgreSQL into QueueError."""
        try:
            database = await asyncpg.connect(
                self.url, timeout=CALL_S, command_timeout=CALL_S, server_settings=self._settings
            )
            try:
                yield database
            finally:
                await database.close(timeout=CALL_S)
        except asyncpg.LockNotAvailableError:
            raise QueueError(
                f"queues {self._named}: a transaction on {self.schema}.saq_jobs did not end within {LOCK_S} s: "
                "try again, or end the one that pg_stat_activity shows"
            ) from None
        except asyncpg.InsufficientPrivilegeError as error:
            raise QueueError(
                f"queues {self._named}: {error}: let `database` name the role that owns {self.schema}.saq_jobs"
            ) from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ValueError) as error:
            raise QueueError(
                f"queues {self._named}: {error or type(error).__name__}: is their PostgreSQL up, and is `database` its URL?"
            ) from error

    @property
    def _settings(self) -> dict[str, str]:
        return {
            "search_path": f'"{self.schema}", pg_temp',
            "application_name": "soulforge-queues",
            "lock_timeout": f"{LOCK_S}s",
        }


async def _was_ever_held(database: Connection) -> bool:
    return bool(await database.fetchval("SELECT to_regclass('soulforge_hold') IS NOT NULL"))


def describe(queue: str, key: str, job: bytes, now: float) -> str:
    """Describe a job for the owner; only by its key where its worker does not write jobs as JSON."""
    try:
        fields = json.loads(job)
        since = f", for {max(0.0, now - fields['started'] / 1000):.0f} s" if fields.get("started") else ""
        return f"queue {queue}: {fields['function']} ({key}) on worker {fields.get('worker_id', 'unknown')}{since}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"queue {queue}: job {key}"
