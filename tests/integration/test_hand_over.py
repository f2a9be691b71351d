"""The hand-over of the anvil on a real ledger, with a rune, a memory and jobs that do what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import nats
import pytest

from services.orchestrator import containment, store
from services.orchestrator.anvil import Anvil
from services.orchestrator.containment import LOOKS_PER_FAILURE
from services.orchestrator.hand_over.steps import Step
from services.orchestrator.reclaim import reclaim
from services.orchestrator.reconcile import look
from services.orchestrator.rune import Condition
from services.orchestrator.settings import OrchestratorSettings
from shared import lease, ledger
from shared.configuration.model import AnvilConfig, RuneConfig
from shared.contracts.evacuate import GpuEvacuated, GpuReclaim
from shared.contracts.forge import AdapterFailed
from shared.contracts.message import Service
from shared.contracts.ritual import State
from shared.drivers.containers.port import ContainerError, ContainerInfo, ContainerState
from shared.drivers.inference.port import Activity
from shared.postgres import Pool, open_pool
from shared.service import Station
from tests.orchestrated import harvested
from tests.servers import House

MIB = 1024**2


class FakeRune:
    """A rune that serves once it is started, and holds memory while it is up."""

    name = "rune"
    container = "rune-anvil0-rune"
    config = RuneConfig()

    def __init__(self) -> None:
        self.up = True
        self.open_ = True
        self.done: list[str] = []
        self.keeps = 0
        self.busy = 0
        self.fails = False
        self.answers = "hammer, tongs, fire"
        self.inference = self
        self.containers = self

    async def condition(self) -> Condition:
        if self.fails and self.done and self.done[-1] == "start":
            return Condition.CRASHED
        return Condition.SERVING if self.up else Condition.DOWN

    async def start(self) -> None:
        self.done.append("start")
        self.up, self.open_ = not self.fails, False

    async def leave(self) -> None:
        self.done.append("leave")
        self.up = False

    async def stop(self) -> None:
        self.done.append("stop")
        self.up = False

    async def gone(self) -> bool:
        return not self.up

    async def close(self, why: str, fence: int) -> bool:
        self.open_ = False
        return True

    async def open(self) -> None:
        self.open_ = True

    async def under_way(self) -> int:
        return self.busy

    async def drain(self, grace_s: float = 0.0) -> int:
        return self.busy

    async def abort(self) -> int:
        aborted, self.busy = self.busy, 0
        return aborted

    async def activity(self) -> Activity:
        return Activity(running=self.busy, waiting=0, finished_total=0)

    async def models(self) -> frozenset[str]:
        return frozenset({"base"}) if self.up else frozenset()

    async def answer(self, model: str, turns: object, max_tokens: int, salt: str | None = None) -> str:
        return self.answers

    async def list(self, labels: dict[str, str]) -> list[object]:
        return []

    async def logs(self, name: str, tail: int) -> str:
        return "its last words"

    async def memory_bytes(self) -> int:
        return 900 * MIB if self.up else self.keeps


class FakeMemory:
    description = "fake"

    def __init__(self, rune: FakeRune) -> None:
        self.used_bytes = rune.memory_bytes

    async def processes(self) -> tuple[int, ...]:
        return ()


class FakeContainers:
    """Jobs by name; all run until they are stopped."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.stopped: dict[str, float] = {}

    async def list(self, labels: dict[str, str]) -> list[ContainerInfo]:
        named = [name for name in self.running if name.startswith(labels["role"])]
        return [ContainerInfo(name=name, state=ContainerState.RUNNING, labels=labels, started_at=0.0) for name in named]

    async def stop(self, name: str, grace_s: float) -> None:
        self.stopped[name] = grace_s

    async def remove(self, name: str) -> None:
        self.running.remove(name)


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
def anvil(station: Station, rune: FakeRune) -> Anvil:
    return an_anvil(station, rune)


def an_anvil(station: Station, rune: FakeRune) -> Anvil:
    return Anvil(
        station,
        OrchestratorSettings(models_within_s=0.3),
        "anvil0",
        AnvilConfig(free_within_s=0.3),
        (rune,),  # type: ignore[arg-type]
        FakeMemory(rune),
        FakeContainers(),  # type: ignore[arg-type]
    )


async def state_of(pool: Pool, ritual: UUID) -> State:
    found = await ledger.find(pool, ritual)
    assert found
    return found.state


async def looks(anvil: Anvil, times: int) -> None:
    for _ in range(times):
        await look(anvil)


async def facts(pool: Pool, ritual: UUID) -> list[str]:
    rows = await pool.fetch("SELECT subject FROM ritual_fact WHERE ritual = $1 ORDER BY stated_at", ritual)
    return [row["subject"] for row in rows]


async def test_a_free_serving_anvil_is_evacuated_for_the_ritual_that_waits(
    anvil: Anvil, station: Station, rune: FakeRune
) -> None:
    ritual = await harvested(station.pool, "one")

    await looks(anvil, 2)

    assert await state_of(station.pool, ritual) is State.EVACUATED
    assert rune.done == ["leave"]
    body = await ledger.fact_body(station.pool, ritual, "gpu.evacuated")
    assert body
    assert (body["memory_before"], body["memory_after"]) == (900 * MIB, 0)
    said = await station.pool.fetchval("SELECT count(*) FROM outbox WHERE subject = 'inference.suspended'")
    assert said == 1


async def test_memory_that_does_not_come_free_is_a_refusal_and_inference_comes_back(
    anvil: Anvil, station: Station, rune: FakeRune
) -> None:
    rune.keeps = 400 * MIB
    ritual = await harvested(station.pool, "one")

    await looks(anvil, 2)
    assert await state_of(station.pool, ritual) is State.REFUSED
    await looks(anvil, 3)

    assert rune.up
    assert await lease.held(station.pool, "anvil0") is None
    body = await ledger.fact_body(station.pool, ritual, "gpu.refused")
    assert body
    assert "419430400 bytes are still in use" in body["reason"]
    assert "gpu.evacuated" not in await facts(station.pool, ritual)


async def test_when_the_gpu_work_ends_inference_is_restored_with_its_receipt(
    anvil: Anvil, station: Station, rune: FakeRune
) -> None:
    ritual = await harvested(station.pool, "one")
    await looks(anvil, 2)
    await asyncio.sleep(0.05)
    assert await station.state(AdapterFailed(ritual=ritual, persona="scribe", reason="broken"), datetime.now(UTC))

    await looks(anvil, 3)

    assert rune.up
    restored = await ledger.fact_body(station.pool, ritual, "gpu.restored")
    assert restored
    assert 0.05 <= restored["seconds_without_inference"] < 30
    assert await station.pool.fetchval("SELECT count(*) FROM outbox WHERE subject = 'inference.resumed'") == 1


async def test_an_expired_lease_is_another_attempt_after_the_holder_is_proven_gone(
    anvil: Anvil, station: Station
) -> None:
    ritual = await harvested(station.pool, "one")
    await looks(anvil, 2)
    await station.pool.execute("UPDATE lease SET expires_at = clock_timestamp() - interval '1 second'")

    await looks(anvil, 1)
    found = await ledger.find(station.pool, ritual)
    assert found
    assert (found.state, found.attempt) == (State.HARVESTED, 2)
    await looks(anvil, 4)

    held = await lease.held(station.pool, "anvil0")
    assert held
    assert (held.attempt, held.fence) == (2, 2)
    assert await state_of(station.pool, ritual) is State.EVACUATED


async def test_of_several_the_most_urgent_then_the_oldest_goes_first_and_the_others_wait(
    anvil: Anvil, station: Station
) -> None:
    old, urgent, late = [
        await harvested(station.pool, name, priority) for name, priority in (("old", 5), ("urgent", 9), ("late", 5))
    ]

    await looks(anvil, 2)
    assert await state_of(station.pool, urgent) is State.EVACUATED
    assert await state_of(station.pool, old) is await state_of(station.pool, late) is State.HARVESTED
    await station.state(AdapterFailed(ritual=urgent, persona="scribe", reason="broken"), datetime.now(UTC))
    await looks(anvil, 5)

    assert await state_of(station.pool, old) is State.EVACUATED


async def test_a_ritual_cancelled_while_it_waits_never_touches_the_anvil(
    anvil: Anvil, station: Station, rune: FakeRune
) -> None:
    ritual = await harvested(station.pool, "one")
    await ledger.request_cancel(station.pool, ritual, "no longer wanted")

    await looks(anvil, 2)

    assert await state_of(station.pool, ritual) is State.CANCELLED
    assert rune.done == []


async def test_an_evacuation_cut_short_anywhere_is_taken_up_again(
    anvil: Anvil, station: Station, rune: FakeRune, monkeypatch: pytest.MonkeyPatch
) -> None:
    ritual = await harvested(station.pool, "one")

    async def crash() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rune, "gone", crash)
    with pytest.raises(KeyboardInterrupt):
        await looks(anvil, 2)
    monkeypatch.undo()
    assert await state_of(station.pool, ritual) is State.HARVESTED

    await looks(an_anvil(station, rune), 1)

    assert await state_of(station.pool, ritual) is State.EVACUATED
    assert await station.pool.fetchval("SELECT count(*) FROM outbox WHERE subject = 'inference.suspended'") == 1
    assert isinstance(await ledger.fact_body(station.pool, ritual, GpuEvacuated.subject), dict)


async def test_every_step_of_a_hand_over_is_on_record_and_in_the_trace(
    anvil: Anvil, station: Station, rune: FakeRune
) -> None:
    rune.busy = 3
    ritual = await harvested(station.pool, "one")
    await looks(anvil, 2)
    await station.state(AdapterFailed(ritual=ritual, persona="scribe", reason="broken"), datetime.now(UTC))
    await looks(anvil, 1)

    rows = await station.pool.fetch("SELECT step, ended_at FROM hand_over_step ORDER BY began_at")
    queues = {Step.HOLD, Step.DRAIN_QUEUE, Step.RELEASE}
    assert [row["step"] for row in rows] == [step for step in Step if step not in queues]
    assert all(row["ended_at"] for row in rows)
    there = await ledger.fact_body(station.pool, ritual, "gpu.evacuated")
    back = await ledger.fact_body(station.pool, ritual, "gpu.restored")
    assert there
    assert back
    assert there["aborted"] == 3
    assert {"close.rune", "drain.rune", "prove"} <= {span["name"] for span in there["spans"]}
    assert {"take-back", "start.rune", "compare.rune"} <= {span["name"] for span in back["spans"]}
    assert back["probes_equal"] is True
    assert back["memory_restored"] == 900 * MIB


async def test_an_anvil_that_is_wanted_back_is_given_back_and_the_ritual_waits_as_interrupted(
    anvil: Anvil, station: Station, rune: FakeRune
) -> None:
    ritual = await harvested(station.pool, "one")
    await looks(anvil, 2)
    jobs: FakeContainers = anvil.jobs  # type: ignore[assignment]
    jobs.running = ["trainer-1"]
    await reclaim(station, GpuReclaim(why="a guest asks", hold_s=3600))

    await looks(anvil, 3)

    assert rune.up
    assert rune.open_
    assert jobs.stopped == {"trainer-1": anvil.own.reclaim_grace_s}
    found = await ledger.find(station.pool, ritual)
    assert found
    assert (found.state, found.attempt) == (State.HARVESTED, 2)
    body = await ledger.fact_body(station.pool, ritual, "gpu.interrupted")
    assert body
    assert body["asked"] is True
    assert "a guest asks" in body["reason"]
    assert await ledger.failures(station.pool, ritual) == 0
    reason = await station.pool.fetchval("SELECT reason FROM decision WHERE ritual = $1", ritual)
    assert "was wanted back until" in reason

    await station.pool.execute("UPDATE reclaim SET until = clock_timestamp()")
    await looks(anvil, 2)
    assert await state_of(station.pool, ritual) is State.EVACUATED


async def test_an_anvil_that_is_wanted_back_in_the_middle_of_its_evacuation_is_not_handed_over(
    anvil: Anvil, station: Station, rune: FakeRune, monkeypatch: pytest.MonkeyPatch
) -> None:
    ritual = await harvested(station.pool, "one")

    async def demand(grace_s: float = 0.0) -> int:
        await reclaim(station, GpuReclaim(why="now", hold_s=3600))
        return 0

    monkeypatch.setattr(rune, "drain", demand)
    await looks(anvil, 4)

    assert await state_of(station.pool, ritual) is State.HARVESTED
    assert rune.up
    assert rune.open_
    assert await lease.held(station.pool, "anvil0") is None


async def test_a_reclaim_from_before_the_lease_does_not_end_it(anvil: Anvil, station: Station) -> None:
    ritual = await harvested(station.pool, "one")
    await reclaim(station, GpuReclaim(why="earlier", hold_s=0))

    await looks(anvil, 4)

    assert await state_of(station.pool, ritual) is State.EVACUATED


async def test_an_engine_of_containers_that_is_away_is_contained_and_nothing_is_granted(
    anvil: Anvil, station: Station, rune: FakeRune, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> Condition:
        raise ContainerError("the engine does not answer: start it")

    ritual = await harvested(station.pool, "one")
    monkeypatch.setattr(rune, "condition", away)
    await looks(anvil, anvil.own.contain_after * LOOKS_PER_FAILURE)

    assert await state_of(station.pool, ritual) is State.HARVESTED
    assert await store.contained(station.pool, "anvil0") == "the engine does not answer: start it"
    assert await station.pool.fetchval("SELECT count(*) FROM outbox WHERE subject = 'gpu.contained'") == 1
    monkeypatch.undo()
    await looks(anvil, 2)
    assert await store.contained(station.pool, "anvil0") is None
    assert await state_of(station.pool, ritual) is State.EVACUATED


async def test_an_engine_that_goes_away_in_the_middle_of_an_evacuation_is_a_refusal_and_no_training(
    anvil: Anvil, station: Station, rune: FakeRune, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> None:
        raise ContainerError("the engine does not answer: start it")

    ritual = await harvested(station.pool, "one")
    monkeypatch.setattr(rune, "leave", away)
    await looks(anvil, 3)

    assert await state_of(station.pool, ritual) is State.REFUSED
    assert "gpu.evacuated" not in await facts(station.pool, ritual)
    assert rune.up
    assert rune.open_


async def test_a_process_that_computes_on_the_device_keeps_the_anvil_from_everybody(
    anvil: Anvil, station: Station, rune: FakeRune, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def strangers() -> tuple[int, ...]:
        return (4242,)

    monkeypatch.setattr(anvil.accelerator, "processes", strangers)
    ritual = await harvested(station.pool, "one")
    await looks(anvil, 3)

    assert await state_of(station.pool, ritual) is State.REFUSED
    body = await ledger.fact_body(station.pool, ritual, "gpu.refused")
    assert body
    assert "processes 4242 compute on the device" in body["reason"]


async def test_a_rune_that_comes_up_while_the_anvil_is_held_is_stopped(
    anvil: Anvil, station: Station, rune: FakeRune
) -> None:
    ritual = await harvested(station.pool, "one")
    await looks(anvil, 2)
    rune.up = True

    await looks(anvil, 1)

    assert not rune.up
    assert await state_of(station.pool, ritual) is State.EVACUATED


async def test_what_a_contained_anvil_answers_can_be_accepted(
    anvil: Anvil, station: Station, rune: FakeRune, monkeypatch: pytest.MonkeyPatch
) -> None:
    await containment.contain(anvil, "base answers otherwise", 3, until_accepted=True)
    ritual = await harvested(station.pool, "one")
    await looks(anvil, 3)
    assert await state_of(station.pool, ritual) is State.HARVESTED

    await containment.accept(anvil, "new weights, on purpose")
    await looks(anvil, 2)
    assert await state_of(station.pool, ritual) is State.EVACUATED
