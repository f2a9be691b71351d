"""Make the anvil what the rows say: held by the ritual that has the lease, or serving.

The order matters: a held anvil is settled first; a free one is brought to serve; only a serving one is given away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.orchestrator import store
from services.orchestrator.anvil import Anvil, open_anvil
from services.orchestrator.restore import restore
from services.orchestrator.settle import settle
from shared import lease, ledger
from shared.contracts.ritual import State

if TYPE_CHECKING:
    from shared.contracts.intent import RitualCancel
    from shared.ledger import Ritual
    from shared.service import Station


class Orchestrator:
    """Keeps the one anvil of this house."""

    def __init__(self) -> None:
        self._anvil: Anvil | None = None

    async def reconcile(self, station: Station) -> None:
        if self._anvil is None or self._anvil.station is not station:
            self._anvil = open_anvil(station)
        anvil = self._anvil
        if held := await lease.held(station.pool, anvil.name):
            await settle(anvil, held)
        if await lease.held(station.pool, anvil.name) is None and await restore(anvil):
            await _grant(anvil)

    async def ritual_cancel(self, station: Station, command: RitualCancel, message: object) -> None:
        """Flag the ritual; whoever owns its stage ends it at the next safe point."""
        await ledger.request_cancel(station.pool, command.ritual, command.why)
        station.stir()


async def _grant(anvil: Anvil) -> None:
    """Lease the serving anvil to the most urgent ritual that waits, unless an adapter is about to be awakened."""
    station = anvil.station
    if await ledger.waiting(station.pool, State.VERIFIED, State.REGISTERED):
        return
    for ritual in await ledger.waiting(station.pool, State.HARVESTED):
        if ritual.cancel_requested_at:
            await station.state_cancelled(ritual)
            continue
        await _lease(anvil, ritual)
        return


async def _lease(anvil: Anvil, ritual: Ritual) -> None:
    station = anvil.station
    async with station.pool.acquire() as conn, conn.transaction():
        fence = await lease.acquire(conn, anvil.name, ritual.id, ritual.attempt, station.settings.lease_ttl_s)
        if fence is not None:
            await store.begin(conn, anvil.name, fence, ritual.id, ritual.attempt)
    station.stir()
