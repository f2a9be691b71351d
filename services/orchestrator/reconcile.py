"""Make every anvil what the rows say: held by the ritual that has the lease, or serving.

The order matters: a held anvil is settled first; a free one is brought to serve; only a serving one is given away.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.orchestrator import containment
from services.orchestrator.anvil import Anvil, open_anvils
from services.orchestrator.handover.restore import restore
from services.orchestrator.held import reconcile_held
from services.orchestrator.reclaim import reclaim
from services.orchestrator.schedule import explain_wait, schedule
from services.orchestrator.settings import OrchestratorSettings
from shared import lease, ledger
from shared.drivers.accelerators.port import AcceleratorError
from shared.drivers.containers.port import ContainerError
from shared.drivers.queues.port import QueueError
from shared.metrics import CONTAINED

if TYPE_CHECKING:
    from shared.contracts.evacuate import GpuAccept, GpuReclaim
    from shared.contracts.intent import RitualCancel
    from shared.service import Station

AWAY = (ContainerError, AcceleratorError, QueueError)


class Orchestrator:
    """Keeps the anvils of this house. Each is looked after by itself: one that drains or starts holds up no other."""

    def __init__(self) -> None:
        self._anvils: tuple[Anvil, ...] = ()
        self._looks: dict[str, asyncio.Task[None]] = {}

    async def reconcile(self, station: Station) -> None:
        """Look at every anvil that is not being looked at; returns after the reconciler's own distance at the latest."""
        if not self._anvils or self._anvils[0].station is not station:
            self._anvils = open_anvils(station, OrchestratorSettings())
            self._looks = {}
            for anvil in self._anvils:
                await anvil.stop_unknown_containers()
        for anvil in self._anvils:
            if anvil.name not in self._looks:
                self._looks[anvil.name] = asyncio.create_task(look(anvil), name=f"look-{anvil.name}")
        done, _ = await asyncio.wait(self._looks.values(), timeout=station.settings.reconcile_s)
        self._looks = {name: task for name, task in self._looks.items() if task not in done}
        for task in done:
            await task

    async def end_looks(self, station: Station) -> None:
        """Runs as long as the service; looks that are under way when it stops are ended before its connections are."""
        try:
            await asyncio.Event().wait()
        finally:
            for task in self._looks.values():
                task.cancel()
            await asyncio.gather(*self._looks.values(), return_exceptions=True)

    async def ritual_cancel(self, station: Station, command: RitualCancel, message: object) -> None:
        """Flag the ritual; whoever owns its stage ends it at the next safe point."""
        await ledger.request_cancel(station.pool, command.ritual, command.why)
        station.stir()

    async def gpu_reclaim(self, station: Station, command: GpuReclaim, message: object) -> None:
        """Remember who wants the anvil; the next look gives it back."""
        await reclaim(station, command)
        station.stir()

    async def gpu_accept(self, station: Station, command: GpuAccept, message: object) -> None:
        """What a contained anvil answers is well as it is: rituals may take it again."""
        name = command.anvil or station.configuration.forge
        for anvil in self._anvils:
            if anvil.name == name:
                await containment.accept(station.pool, anvil.name, command.why)
        station.stir()


async def look(anvil: Anvil) -> None:
    """One look at one anvil."""
    station = anvil.station
    try:
        if held := await lease.held(station.pool, anvil.name):
            CONTAINED.labels(anvil.name).set(0)
            await reconcile_held(anvil, held)
        if await lease.held(station.pool, anvil.name):
            return
        if await restore(anvil):
            await anvil.monitor.sample(anvil.runes)
            if anvil.trains:
                await schedule(anvil)
        elif anvil.trains:
            await explain_wait(anvil)
    except AWAY as error:
        await containment.record_failed_check(station.pool, anvil.name, error, anvil.own.contain_after)
