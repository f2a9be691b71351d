"""The orchestrator: hears what begins or ends GPU work, records `gpu.evacuated`, `gpu.refused` and `gpu.restored`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.orchestrator.anvil import open_anvils
from services.orchestrator.handlers import gpu_accept, gpu_reclaim, ritual_cancel
from services.orchestrator.reconcile import Reconciler, clean_up
from services.orchestrator.settings import OrchestratorSettings
from shared.contracts.evacuate import GpuAccept, GpuReclaim
from shared.contracts.intent import RitualCancel
from shared.contracts.message import Service
from shared.runtime.service import App

if TYPE_CHECKING:
    from shared.runtime.service import ServiceContext


async def open_reconciler(context: ServiceContext) -> Reconciler:
    """Read the settings and build every dependency from the context. Raises AcceleratorError."""
    anvils = open_anvils(context, OrchestratorSettings())
    for anvil in anvils:
        await clean_up(anvil)
    return Reconciler(anvils, context.settings.reconcile_s)


class Reconciling:
    """The reconciler of the service: built when the service starts, stopped with it."""

    def __init__(self) -> None:
        self._reconciler: Reconciler | None = None

    async def reconcile(self, context: ServiceContext) -> None:
        if self._reconciler is None:
            self._reconciler = await open_reconciler(context)
        await self._reconciler.reconcile()

    async def stop_with_service(self, _: ServiceContext) -> None:
        """Run as long as the service, then stop the checks under way."""
        try:
            await asyncio.Event().wait()
        finally:
            if self._reconciler:
                await self._reconciler.stop()
                self._reconciler = None


_reconciling = Reconciling()
app = App(
    service=Service.ORCHESTRATOR,
    handlers={RitualCancel: ritual_cancel, GpuReclaim: gpu_reclaim, GpuAccept: gpu_accept},
    reconcile=_reconciling.reconcile,
    background=(_reconciling.stop_with_service,),
)
