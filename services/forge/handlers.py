"""Handlers of the forge: a manifest lets it ask the base for answers, an evacuated anvil starts the training of an adapter."""

from __future__ import annotations

import asyncio
from typing import Annotated

from faststream import Context

from shared.contracts.evacuate import GpuEvacuated
from shared.contracts.harvest import KarmaHarvested
from shared.messaging.router import Router
from shared.runtime.context import InContext

router = Router("forge")
ReplayWoken = Annotated[asyncio.Event, Context("replay")]


@router.consume(KarmaHarvested)
async def karma_harvested(fact: KarmaHarvested, replay: ReplayWoken) -> None:
    replay.set()


@router.consume(GpuEvacuated)
async def gpu_evacuated(fact: GpuEvacuated, service: InContext) -> None:
    service.wake()
