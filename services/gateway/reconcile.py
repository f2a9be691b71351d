"""Keep the door's table as the registry's tables are: at every fact that may change them, and every few seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.gateway.table import query_table

if TYPE_CHECKING:
    from services.gateway.door import Door
    from shared.runtime.context import ServiceContext

EVERY_S = 2.0


class TableReader:
    """Reads the table for the door."""

    def __init__(self, context: ServiceContext, door: Door) -> None:
        self._context, self._door = context, door

    async def reconcile(self) -> float:
        """Read the table once; returns the seconds until the next time."""
        await self._door.set_table(await query_table(self._context.pool))
        return min(EVERY_S, self._context.configuration.runtime.reconcile_s)
