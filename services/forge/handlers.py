"""What the forge consumes: an evacuated anvil means that there is an adapter to train."""

from __future__ import annotations

from shared.contracts.evacuate import GpuEvacuated
from shared.messaging.router import Router
from shared.runtime.context import InContext

router = Router("forge")


@router.consume(GpuEvacuated)
async def gpu_evacuated(fact: GpuEvacuated, service: InContext) -> None:
    service.wake()
