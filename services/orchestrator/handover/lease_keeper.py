"""Keep the lease alive through steps that take longer than its life."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from services.orchestrator import store
from shared import lease
from shared.postgres import UNREACHABLE
from shared.watchdog import RENEWALS_PER_TTL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.lease import Lease
    from shared.service import Station


class LeaseLostError(Exception):
    """The lease ran out, its ritual is to be cancelled, or the anvil is wanted back: it must be taken back, not handed over."""


class Keeper:
    """Renews a lease in the background; `ensure` before a step that needs it."""

    def __init__(self, station: Station, held: Lease) -> None:
        self._station, self._held = station, held
        self._lost = ""

    async def ensure(self) -> None:
        """Renew now. Raises LeaseLostError."""
        await self._renew()
        if self._lost:
            raise LeaseLostError(self._lost)

    async def renew_always(self) -> None:
        while not self._lost:
            await asyncio.sleep(self._station.settings.lease_ttl_s / RENEWALS_PER_TTL)
            with suppress(*UNREACHABLE):
                await self._renew()

    async def _renew(self) -> None:
        station, held = self._station, self._held
        renewal = await lease.renew(station.pool, held.anvil, held.fence, station.settings.lease_ttl_s)
        if not renewal.held:
            self._lost = "the lease is lost"
        elif renewal.cancelled:
            self._lost = "the ritual is to be cancelled"
        elif (why := await store.get_reclaim(station.pool, held.anvil)) is not None:
            self._lost = f"the anvil is wanted back: {why}"


@asynccontextmanager
async def keeping(station: Station, held: Lease) -> AsyncIterator[Keeper]:
    keeper = Keeper(station, held)
    await keeper.ensure()
    task = asyncio.create_task(keeper.renew_always())
    try:
        yield keeper
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
