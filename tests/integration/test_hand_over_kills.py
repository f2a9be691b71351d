"""kill -9 of the orchestrator between any two steps of a hand-over: it goes on, or inference serves again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import asyncpg
import pytest
from nats.aio.client import Client

from services.orchestrator.steps import EVACUATION, RESTORATION, Step
from shared.contracts.evacuate import GpuEvacuated, GpuRestored
from shared.contracts.message import ritual_id
from shared.drivers.queues.worker import pausable
from tests.support.boundaries import EDGES, Boundary, Holder
from tests.support.orchestrated import Orchestrated, orchestrated
from tests.support.servers import House

pytestmark = pytest.mark.timeout(600)

BEYOND_LEASE_S = 60
QUEUE = """
[queues.workers]
driver = "bus"
workers = ["embedder"]
grace_s = 10
"""


@pytest.fixture
async def at_work(house: House, client: Client, tmp_path: Path) -> AsyncIterator[Orchestrated]:
    """An orchestrator with a rune and a worker that pauses when it is asked."""
    async with orchestrated(house.settings, tmp_path) as one, pausable(client, "embedder"):
        one.configure(QUEUE, queues='["workers"]')
        await one.start()
        await one.eventually(one.serves, 30, "the rune serves")
        yield one


@pytest.fixture
async def holder(house: House) -> AsyncIterator[Holder]:
    conn = await asyncpg.connect(house.settings.database_url("bootstrap"))
    holder = Holder(conn)
    await holder.install()
    yield holder
    await holder.remove()
    await conn.close()


async def killed_at_each(
    one: Orchestrated, holder: Holder, steps: tuple[Step, ...], begin: Awaitable[object], roll_back: bool
) -> list[str]:
    """Kill the orchestrator at both edges of each step, one after another on the same hand-over; what fired, in order.

    `begin` sets the hand-over going, once the first boundary is armed.
    """
    fired: list[str] = []
    for boundary in [Boundary(step, edge) for step in steps for edge in EDGES]:
        await holder.arm(boundary)
        if fired:
            await one.start()
        else:
            await begin
        await one.eventually(holder.fired, BEYOND_LEASE_S, f"the orchestrator comes to {boundary}")
        await one.kill()
        await holder.disarm(roll_back)
        fired.append(str(boundary))
    await one.start()
    return fired


# With the record lost, a step is done but not recorded; with the record written, nothing has followed it.
# The second is the same place as the first of the next step, so it runs only where time does not matter.
@pytest.mark.parametrize(
    "roll_back", [True, pytest.param(False, marks=pytest.mark.extended)], ids=["record-lost", "record-written"]
)
async def test_a_hand_over_goes_on_after_kill_9_between_any_two_of_its_steps(
    at_work: Orchestrated, holder: Holder, roll_back: bool
) -> None:
    there = await killed_at_each(at_work, holder, EVACUATION, at_work.harvested("one"), roll_back)
    ritual = ritual_id("one")

    async def evacuated() -> bool:
        return await at_work.state(ritual) == "evacuated"

    await at_work.eventually(evacuated, BEYOND_LEASE_S, "the ritual holds the anvil")
    assert not await at_work.rune.healthy()
    fact = await at_work.fact(ritual, GpuEvacuated)
    assert fact
    assert fact.memory_after == 0

    back = await killed_at_each(at_work, holder, RESTORATION, at_work.end(ritual), roll_back)
    await at_work.eventually(at_work.serves, BEYOND_LEASE_S, "inference serves again")

    print(f"kills fired: {len(there) + len(back)}:", *there, *back)
    assert there == [f"{step}:{edge}" for step in EVACUATION for edge in EDGES]
    assert back == [f"{step}:{edge}" for step in RESTORATION for edge in EDGES]
    await asyncio.sleep(1)
    published = await at_work.pool.fetch("SELECT subject, count(*) AS n FROM outbox GROUP BY subject")
    counts = {row["subject"]: row["n"] for row in published}
    assert counts["gpu.evacuated"] == counts["gpu.restored"] == 1
    assert counts["inference.suspended"] == counts["inference.resumed"] == 1
    restored = await at_work.fact(ritual, GpuRestored)
    assert restored
    assert restored.probes_equal is True
