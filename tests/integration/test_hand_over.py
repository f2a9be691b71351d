"""The hand-over of the anvil on a real ledger, with a rune, a memory and jobs that do what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import nats
import pytest

from services.orchestrator import reconcile as orchestrator
from services.orchestrator.anvil import Anvil
from services.orchestrator.reconcile import Orchestrator
from services.orchestrator.rune import Condition
from services.orchestrator.settings import OrchestratorSettings
from shared import lease, ledger
from shared.base import Base
from shared.contracts.evacuate import GpuEvacuated
from shared.contracts.forge import AdapterFailed
from shared.contracts.harvest import KarmaHarvested
from shared.contracts.intent import TrainingIntent
from shared.contracts.message import Service
from shared.contracts.ritual import State
from shared.postgres import Pool, open_pool
from shared.service import Station
from tests.servers import House

MIB = 1024**2


class FakeRune:
    """A rune that serves after its second look, and holds memory while it is up."""

    def __init__(self) -> None:
        self.up = True
        self.done: list[str] = []
        self.keeps = 0
        self.inference = self
        self.containers = self

    async def condition(self) -> Condition:
        return Condition.SERVING if self.up else Condition.DOWN

    async def start(self, base: Base) -> None:
        self.done.append("start")
        self.up = True

    async def stop(self) -> None:
        self.done.append("stop")
        self.up = False

    async def forget(self) -> None:
        self.done.append("forget")

    async def models(self) -> frozenset[str]:
        return frozenset({"base"})

    async def memory_bytes(self) -> int:
        return 900 * MIB if self.up else self.keeps


class FakeMemory:
    description = "fake"

    def __init__(self, rune: FakeRune) -> None:
        self.used_bytes = rune.memory_bytes


class FakeContainers:
    """Jobs by name; all run until they are killed."""

    def __init__(self) -> None:
        self.killed: list[str] = []

    async def list(self, labels: dict[str, str]) -> list[object]:
        return []


@pytest.fixture
async def station(house: House, tmp_path: Path) -> AsyncIterator[Station]:
    pool = await open_pool(house.settings.database_url, "orchestrator")
    client = await nats.connect(house.settings.nats_url)
    models = tmp_path / "models"
    (models / house.settings.base).mkdir(parents=True)
    (models / f"{house.settings.base}.sha256").write_text("sha256:base\n")
    settings = house.settings.model_copy(update={"models": models})
    yield Station(Service.ORCHESTRATOR, settings, pool, client)
    await client.close()
    await pool.close()


@pytest.fixture
def rune() -> FakeRune:
    return FakeRune()


@pytest.fixture
def look(station: Station, rune: FakeRune, monkeypatch: pytest.MonkeyPatch) -> Orchestrator:
    own = OrchestratorSettings(free_within_s=0.3)
    anvil = Anvil(station, own, FakeContainers(), rune, FakeMemory(rune))  # type: ignore[arg-type]
    monkeypatch.setattr(orchestrator, "open_anvil", lambda _: anvil)
    return Orchestrator()


async def harvested(pool: Pool, intent_id: str = "one", priority: int = 5) -> UUID:
    async with pool.acquire() as conn, conn.transaction():
        intent = TrainingIntent(persona="scribe", priority=priority)
        ritual = await ledger.open_ritual(conn, intent, intent_id, None)
        fact = KarmaHarvested(
            ritual=ritual, persona="scribe", manifest="m", holdout="h", train=1, dev=1, held_out=1, seen=3, excluded={}
        )
        await ledger.state_fact(conn, fact, Service.HARVESTER, datetime.now(UTC))
    return ritual


async def state_of(pool: Pool, ritual: UUID) -> State:
    found = await ledger.find(pool, ritual)
    assert found
    return found.state


async def looks(look: Orchestrator, station: Station, times: int) -> None:
    for _ in range(times):
        await look.reconcile(station)


async def facts(pool: Pool, ritual: UUID) -> list[str]:
    rows = await pool.fetch("SELECT subject FROM ritual_fact WHERE ritual = $1 ORDER BY stated_at", ritual)
    return [row["subject"] for row in rows]


async def test_a_free_serving_anvil_is_evacuated_for_the_ritual_that_waits(
    look: Orchestrator, station: Station, rune: FakeRune
) -> None:
    ritual = await harvested(station.pool)

    await looks(look, station, 2)

    assert await state_of(station.pool, ritual) is State.EVACUATED
    assert rune.done == ["stop", "forget"]
    body = await ledger.fact_body(station.pool, ritual, "gpu.evacuated")
    assert body
    assert (body["memory_before"], body["memory_after"]) == (900 * MIB, 0)
    said = await station.pool.fetchval("SELECT count(*) FROM outbox WHERE subject = 'inference.suspended'")
    assert said == 1


async def test_memory_that_does_not_come_free_is_a_refusal_and_inference_comes_back(
    look: Orchestrator, station: Station, rune: FakeRune
) -> None:
    rune.keeps = 400 * MIB
    ritual = await harvested(station.pool)

    await looks(look, station, 2)
    assert await state_of(station.pool, ritual) is State.REFUSED
    await looks(look, station, 3)

    assert rune.up
    assert await lease.held(station.pool, "anvil0") is None
    body = await ledger.fact_body(station.pool, ritual, "gpu.refused")
    assert body
    assert "419430400 bytes are still in use" in body["reason"]
    assert "gpu.evacuated" not in await facts(station.pool, ritual)


async def test_when_the_gpu_work_ends_inference_is_restored_with_its_receipt(
    look: Orchestrator, station: Station, rune: FakeRune
) -> None:
    ritual = await harvested(station.pool)
    await looks(look, station, 2)
    await asyncio.sleep(0.05)
    assert await station.state(AdapterFailed(ritual=ritual, persona="scribe", reason="broken"), datetime.now(UTC))

    await looks(look, station, 3)

    assert rune.up
    restored = await ledger.fact_body(station.pool, ritual, "gpu.restored")
    assert restored
    assert 0.05 <= restored["seconds_without_inference"] < 30
    assert await station.pool.fetchval("SELECT count(*) FROM outbox WHERE subject = 'inference.resumed'") == 1


async def test_an_expired_lease_is_another_attempt_after_the_holder_is_proven_gone(
    look: Orchestrator, station: Station
) -> None:
    ritual = await harvested(station.pool)
    await looks(look, station, 2)
    await station.pool.execute("UPDATE lease SET expires_at = clock_timestamp() - interval '1 second'")

    await looks(look, station, 1)
    found = await ledger.find(station.pool, ritual)
    assert found
    assert (found.state, found.attempt) == (State.HARVESTED, 2)
    await looks(look, station, 4)

    held = await lease.held(station.pool, "anvil0")
    assert held
    assert (held.attempt, held.fence) == (2, 2)
    assert await state_of(station.pool, ritual) is State.EVACUATED


async def test_of_several_the_most_urgent_then_the_oldest_goes_first_and_the_others_wait(
    look: Orchestrator, station: Station
) -> None:
    old, urgent, late = [
        await harvested(station.pool, name, priority) for name, priority in (("old", 5), ("urgent", 9), ("late", 5))
    ]

    await looks(look, station, 2)
    assert await state_of(station.pool, urgent) is State.EVACUATED
    assert await state_of(station.pool, old) is await state_of(station.pool, late) is State.HARVESTED
    await station.state(AdapterFailed(ritual=urgent, persona="scribe", reason="broken"), datetime.now(UTC))
    await looks(look, station, 5)

    assert await state_of(station.pool, old) is State.EVACUATED


async def test_a_ritual_cancelled_while_it_waits_never_touches_the_anvil(
    look: Orchestrator, station: Station, rune: FakeRune
) -> None:
    ritual = await harvested(station.pool)
    await ledger.request_cancel(station.pool, ritual, "no longer wanted")

    await looks(look, station, 2)

    assert await state_of(station.pool, ritual) is State.CANCELLED
    assert rune.done == []


async def test_an_evacuation_cut_short_anywhere_is_taken_up_again(
    look: Orchestrator, station: Station, rune: FakeRune, monkeypatch: pytest.MonkeyPatch
) -> None:
    ritual = await harvested(station.pool)

    async def crash() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rune, "forget", crash)
    with pytest.raises(KeyboardInterrupt):
        await looks(look, station, 2)
    monkeypatch.undo()
    assert await state_of(station.pool, ritual) is State.HARVESTED

    own = OrchestratorSettings(free_within_s=0.3)
    anvil = Anvil(station, own, FakeContainers(), rune, FakeMemory(rune))  # type: ignore[arg-type]
    monkeypatch.setattr(orchestrator, "open_anvil", lambda _: anvil)
    await looks(Orchestrator(), station, 1)

    assert await state_of(station.pool, ritual) is State.EVACUATED
    assert await station.pool.fetchval("SELECT count(*) FROM outbox WHERE subject = 'inference.suspended'") == 1
    assert isinstance(await ledger.fact_body(station.pool, ritual, GpuEvacuated.subject), dict)
