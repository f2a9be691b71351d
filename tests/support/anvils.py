"""An anvil on a real ledger, with a rune, a memory and jobs that a test controls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from services.orchestrator.anvil import WORKERS, Anvil
from services.orchestrator.engine import Condition
from services.orchestrator.reconcile import check
from services.orchestrator.settings import OrchestratorSettings
from shared.config.model import AnvilConfig, RuneConfig
from shared.contracts.ritual import State
from shared.contracts.roles import Role
from shared.drivers.containers.port import ContainerInfo, ContainerState
from shared.drivers.inference.port import Activity
from shared.messaging.client import connect
from shared.ritual import ledger
from shared.runtime.context import ServiceContext
from shared.storage.postgres import Pool, open_pool
from tests.support.orchestrated import named_base
from tests.support.servers import House
from tests.support.services import play

MIB = 1024**2
FIRST_FENCE = 1


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
        self.busy = self.finished = 0
        self.fails = False
        self.foreign = False  # another engine answers on its port
        self.answers = "hammer, tongs, fire"
        self.inference = self
        self.containers = self

    async def condition(self) -> Condition:
        if self.fails and self.done and self.done[-1] == "start":
            return Condition.CRASHED
        return Condition.SERVING if self.up else Condition.DOWN

    async def healthy(self) -> bool:
        return self.up or self.foreign

    async def start(self) -> None:
        self.done.append("start")
        self.up, self.open_ = not self.fails, False

    async def free_memory(self) -> None:
        self.done.append("free_memory")
        self.up = False

    async def stop(self) -> None:
        self.done.append("stop")
        self.up = False

    async def gone(self) -> bool:
        return not self.up

    async def close(self, why: str, retry_after_s: float = 0.0) -> bool:
        self.open_ = False
        return True

    async def open(self) -> bool:
        self.open_ = True
        return True

    async def in_flight(self) -> int:
        return self.busy

    async def drain(self, grace_s: float = 0.0) -> int:
        return self.busy

    async def abort(self) -> int:
        aborted, self.busy = self.busy, 0
        return aborted

    async def activity(self) -> Activity:
        return Activity(running=self.busy, waiting=0, finished_total=self.finished)

    traffic = activity

    async def models(self) -> frozenset[str]:
        return frozenset({"base"}) if self.up else frozenset()

    async def answer(self, model: str, messages: object, max_tokens: int, salt: str | None = None) -> str:
        self.finished += 1
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
    """Jobs by name; all run until they are stopped. `fences` has those that are not of the first holder."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.stopped: dict[str, float] = {}
        self.fences: dict[str, int] = {}

    async def list(self, labels: dict[str, str]) -> list[ContainerInfo]:
        named = [name for name in self.running if name.startswith(labels["role"])]
        return [
            ContainerInfo(
                name=name,
                state=ContainerState.RUNNING,
                labels={**labels, "fence": str(self.fences.get(name, FIRST_FENCE))},
                started_at=0.0,
            )
            for name in named
        ]

    async def stop(self, name: str, grace_s: float) -> None:
        self.stopped[name] = grace_s

    async def remove(self, name: str) -> None:
        self.running.remove(name)


@pytest.fixture
async def context(house: House, tmp_path: Path) -> AsyncIterator[ServiceContext]:
    pool = await open_pool(house.settings.database_url("orchestrator"), "orchestrator")
    client = await connect(house.settings, Role.ORCHESTRATOR)
    models = tmp_path / "models"
    named_base(models)
    settings = house.settings.model_copy(update={"models": models})
    await play(pool, *WORKERS.values())
    yield ServiceContext("orchestrator", settings, pool, client)
    await client.close()
    await pool.close()


@pytest.fixture
def rune() -> FakeRune:
    return FakeRune()


@pytest.fixture
def anvil(context: ServiceContext, rune: FakeRune) -> Anvil:
    return an_anvil(context, rune)


def an_anvil(context: ServiceContext, rune: FakeRune) -> Anvil:
    return Anvil(
        context,
        OrchestratorSettings(models_within_s=0.3),
        "anvil0",
        AnvilConfig(free_within_s=0.3),
        (rune,),  # type: ignore[arg-type]
        FakeMemory(rune),
        FakeContainers(),  # type: ignore[arg-type]
    )


async def state_of(pool: Pool, ritual: UUID) -> State:
    found = await ledger.get_ritual(pool, ritual)
    assert found
    return found.state


async def checks(anvil: Anvil, times: int) -> None:
    for _ in range(times):
        await check(anvil)
