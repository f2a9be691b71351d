"""Keep the lease of an anvil alive while the steps of its evacuation take longer than the lease lives."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from services.orchestrator import store
from shared.jobs.heartbeat import RENEWALS_PER_TTL
from shared.ritual import lease
from shared.runtime.advance import describe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.ritual.lease import Lease
    from shared.storage.postgres import Pool


log = structlog.get_logger()


class LeaseLostError(Exception):
    """The lease expired, its ritual is to be cancelled or paused, or the anvil was reclaimed: do not hand it over."""


class LeaseKeeper:
    """Renews a lease in the background; call `ensure` before a step that needs it."""

    def __init__(self, pool: Pool, held: Lease, ttl_s: float) -> None:
        self._pool, self._held, self._ttl_s = pool, held, ttl_s
        self._lost = ""

    async def ensure(self) -> None:
        """Renew now. Raises LeaseLostError."""
        await self._renew()
        if self._lost:
            raise LeaseLostError(self._lost)

    async def renew_until_lost(self) -> None:
        while not self._lost:
            await asyncio.sleep(self._ttl_s / RENEWALS_PER_TTL)
            try:
                await self._renew()
            except Exception as error:
                log.warning("lease not renewed", anvil=self._held.anvil, error=describe(error))

    async def _renew(self) -> None:
        held = self._held
        renewal = await lease.renew(self._pool, held.anvil, held.fence, self._ttl_s)
        if not renewal.held:
            self._lost = "the lease is lost"
        elif renewal.cancelled:
            self._lost = "the ritual is to be cancelled"
        elif renewal.paused:
            self._lost = "the ritual was paused"
        elif (why := await store.get_reclaim(self._pool, held.anvil)) is not None:
            self._lost = f"the anvil was reclaimed: {why}"


@asynccontextmanager
async def keep_lease(pool: Pool, held: Lease, ttl_s: float) -> AsyncIterator[LeaseKeeper]:
    """Renew the lease for as long as the block runs. Raises LeaseLostError where it is lost at the start."""
    keeper = LeaseKeeper(pool, held, ttl_s)
    await keeper.ensure()
    task = asyncio.create_task(keeper.renew_until_lost())
    try:
        yield keeper
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
