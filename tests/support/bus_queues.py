"""Workers that are held on the bus, and the orchestrator's queue that holds them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from time import monotonic

import pytest
from nats.aio.client import Client

from shared.config.model import BusConfig
from shared.config.settings import Settings
from shared.contracts.queue import HOLDS_STREAM
from shared.contracts.roles import Role
from shared.drivers.queues.bus import BusQueue
from shared.drivers.queues.worker import Pausable, pausable
from shared.messaging.client import connect

DEADLINE_S = 30
A = "anvil0/17"


@pytest.fixture(autouse=True)
async def no_holds(client: Client) -> AsyncIterator[None]:
    yield
    await client.jetstream().purge_stream(HOLDS_STREAM)


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[BusQueue]:
    orchestrator = await connect(settings, Role.ORCHESTRATOR)
    yield BusQueue(BusConfig(driver="bus", workers=("scribe", "embedder"), grace_s=20), orchestrator)
    await orchestrator.close()


@pytest.fixture
async def workers(settings: Settings) -> AsyncIterator[tuple[Pausable, Pausable]]:
    """Two workers, each with a connection of its own."""
    async with AsyncExitStack() as stack:
        gates = []
        for name in ("scribe", "embedder"):
            connection = await connect(settings, Role.WORKER)
            stack.push_async_callback(connection.close)
            gates.append(await stack.enter_async_context(pausable(connection, name)))
        yield gates[0], gates[1]


async def until(happens: Callable[[], bool]) -> None:
    deadline = monotonic() + DEADLINE_S
    while not happens():
        assert monotonic() < deadline
        await asyncio.sleep(0.02)


def environment_of(settings: Settings) -> dict[str, str]:
    return {**os.environ, "SOULFORGE_HOME": str(settings.home)}
