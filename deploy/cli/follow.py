"""The loop of `watch`: look at the ledger, show what is new, until the ritual is over. A lost server is waited for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from deploy.cli.connect import host_port
from deploy.cli.errors import UserError
from deploy.cli.sight import look
from deploy.cli.views.stages import is_over
from shared.postgres import UNREACHABLE, open_pool

if TYPE_CHECKING:
    from uuid import UUID

    from deploy.cli.sight import Progress, Sight
    from shared.contracts.intent import RitualProgress
    from shared.postgres import Pool
    from shared.settings import Settings

LOOK_EVERY_S = 0.5


class Show(Protocol):
    """Where a ritual is shown."""

    def update(self, sight: Sight, progress: RitualProgress | None) -> None:
        """This is how it stands now."""
        ...

    def lost(self, note: str) -> None:
        """How it stands cannot be seen now, for this reason."""
        ...


async def follow(settings: Settings, ritual: UUID, progress: Progress, show: Show) -> Sight:
    """Show the ritual until it has ended and inference is back; returns the last look."""
    pool: Pool | None = None
    try:
        while True:
            try:
                pool = pool or await open_pool(settings.database_url, "public", size=1)
                sight = await look(pool, ritual)
            except UNREACHABLE:
                show.lost(f"PostgreSQL does not answer at {host_port(settings.database_url)}; trying again")
                await asyncio.sleep(LOOK_EVERY_S)
                continue
            if sight is None:
                raise UserError(f"ritual {ritual} is no longer in the ledger: was the database replaced?")
            show.update(sight, progress.of(sight))
            if is_over(sight.ritual, sight.hand_overs):
                return sight
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        if pool:
            pool.terminate()
