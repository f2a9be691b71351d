"""Keep the door's table and keys as the database has them: at every change, which the database announces, and every few seconds.

On a connection of its own, so that it needs nothing else of the service; the table is the first thing that it reads there.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog

from services.gateway.keys.store import list_keys
from services.gateway.table import query_table
from shared.config.settings import SettingsError
from shared.storage.postgres import UNREACHABLE

if TYPE_CHECKING:
    from services.gateway.door import Door
    from shared.config.settings import Settings

CHANNEL = "soulforge_versions"  #: of the triggers on what is read here
EVERY_S = 2.0
AGAIN_S = 0.3
CONNECT_S = 2.0
AWAY = (*UNREACHABLE, asyncpg.PostgresError, SettingsError)
log = structlog.get_logger()


class TableReader:
    """Reads the table for the door."""

    def __init__(self, settings: Settings, door: Door) -> None:
        self._settings, self._door = settings, door
        self._knows_leases = False
        self.tried = asyncio.Event()  #: whether the table was read, or could not be

    def wake(self, *_: Any) -> None:
        self._door.changed.set()

    async def run(self) -> None:
        """Follow the registry's tables until the connection is lost."""
        connection = None
        self._door.keys.read_owner_key()  # made, maybe, after the door was opened
        try:
            connection = await asyncpg.connect(
                self._settings.database_url("gateway"), timeout=CONNECT_S, command_timeout=CONNECT_S
            )
            connection.add_termination_listener(self.wake)
            await connection.add_listener(CHANNEL, self.wake)
            await self._follow(connection)
        except AWAY as error:
            if self._door.sees or not self.tried.is_set():
                log.warning("decisions are not seen", error=str(error) or type(error).__name__)
        finally:
            self._door.sees = False
            self.tried.set()
            if connection:
                connection.terminate()

    async def _follow(self, connection: asyncpg.Connection[Any]) -> None:
        while True:
            self._door.changed.clear()
            await self._door.set_table(await query_table(connection))
            await self._door.set_keys(await list_keys(connection))
            await self._read_leases(connection)
            self.tried.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._door.changed.wait()

    async def _read_leases(self, connection: asyncpg.Connection[Any]) -> None:
        """Once: a hand-over may have begun while this process was not there to be told."""
        if self._knows_leases:
            return
        rows = await connection.fetch("SELECT anvil FROM public.lease WHERE ritual IS NOT NULL")
        await self._door.engines.close_held({row["anvil"] for row in rows})
        self._knows_leases = True
