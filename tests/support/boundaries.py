"""Hold a process exactly between two steps of a hand-over, so that it can be killed there.

A trigger on the record of steps waits for an advisory lock that the test holds: when a step's beginning is recorded (the step
before it has ended), or when its end is (what it does is done, and not recorded).
"""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from services.orchestrator.steps import Step

LOCK = 4711
EDGES = ("begin", "end")

_TRIGGER = f"""
    CREATE TABLE IF NOT EXISTS orchestrator.armed (step text, edge text);
    GRANT SELECT ON orchestrator.armed TO soulforge_orchestrator;
    CREATE OR REPLACE FUNCTION orchestrator.hold() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        at_edge text := CASE TG_OP WHEN 'INSERT' THEN 'begin' ELSE 'end' END;
    BEGIN
        IF TG_OP = 'UPDATE' AND (NEW.ended_at IS NULL OR OLD.ended_at IS NOT NULL) THEN
            RETURN NEW;
        END IF;
        IF EXISTS (SELECT FROM orchestrator.armed a WHERE a.step = NEW.step AND a.edge = at_edge) THEN
            PERFORM pg_advisory_xact_lock({LOCK});
        END IF;
        RETURN NEW;
    END $$;
    CREATE OR REPLACE TRIGGER hold BEFORE INSERT OR UPDATE ON orchestrator.hand_over_step
        FOR EACH ROW EXECUTE FUNCTION orchestrator.hold();
"""


@dataclass(frozen=True)
class Boundary:
    """One place between two steps."""

    step: Step
    edge: str

    def __str__(self) -> str:
        return f"{self.step}:{self.edge}"


class Holder:
    """Arms one boundary at a time."""

    def __init__(self, conn: asyncpg.Connection) -> None:
        self._conn = conn

    async def install(self) -> None:
        await self._conn.execute(_TRIGGER)
        await self._conn.execute("SELECT pg_advisory_lock($1)", LOCK)

    async def arm(self, boundary: Boundary) -> None:
        await self._conn.execute("INSERT INTO orchestrator.armed VALUES ($1, $2)", boundary.step, boundary.edge)

    async def fired(self) -> bool:
        """True when a process waits at the armed boundary."""
        return bool(await self._waiting())

    async def disarm(self, roll_back: bool) -> None:
        """Release the process that waits; `roll_back` undoes the record that was being written, else it is written."""
        await self._conn.execute("DELETE FROM orchestrator.armed")
        if roll_back:
            for pid in await self._waiting():
                await self._conn.execute("SELECT pg_terminate_backend($1)", pid)
        await self._conn.execute("SELECT pg_advisory_unlock($1)", LOCK)
        await self._conn.execute("SELECT pg_advisory_lock($1)", LOCK)

    async def remove(self) -> None:
        await self._conn.execute("SELECT pg_advisory_unlock_all()")
        await self._conn.execute("DROP TRIGGER IF EXISTS hold ON orchestrator.hand_over_step")
        await self._conn.execute("DROP TABLE IF EXISTS orchestrator.armed")

    async def _waiting(self) -> list[int]:
        rows = await self._conn.fetch(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = $1", LOCK
        )
        return [row["pid"] for row in rows]
