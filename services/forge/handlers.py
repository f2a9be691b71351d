"""Handlers of the forge: an evacuated anvil starts the training of an adapter."""

from __future__ import annotations

from shared.contracts.evacuate import GpuEvacuated
from shared.messaging.router import Router
from shared.runtime.context import InContext

router = Router("forge")


@router.consume(GpuEvacuated)
async def gpu_evacuated(fact: GpuEvacuated, service: InContext) -> None:
    service.wake()
