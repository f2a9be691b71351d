"""All five services in one process, on a real database and bus, with jobs and an engine that take no time."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from time import monotonic, time
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

from deploy.services import SERVICES, load_app, load_configuration, migrations, service_port
from shared.config.settings import Settings
from shared.contracts.intent import TrainingIntent
from shared.contracts.job import RESULT_FILE, JobResult
from shared.contracts.ritual import ENDS
from shared.drivers.containers.port import ContainerInfo, ContainerSpec, ContainerState
from shared.drivers.inference.port import Admission, TokenChoice
from shared.ritual import lease, ledger
from shared.ritual.ledger import Ritual
from shared.runtime.service import App, serve
from shared.storage.postgres import Pool, open_pool
from tests.fuzz import faults
from tests.support.anvils import FakeMemory, FakeRune
from tests.support.configurations import QUICK, configured
from tests.support.evaluations import answered
from tests.support.facts import TRAINING
from tests.support.fakes.vllm_answers import LEAD
from tests.support.harvests import example, remember
from tests.support.orchestrated import named_base
from tests.support.probes import PROMPTS, probe
from tests.support.servers import House

JOB_S = 0.05
RESTART_S = 0.2
START_S = 20.0
END_S = 10.0
POLL_S = 0.02
MAX_ERRORS = 4
AWAKENED_WITHIN_S = 20.0
ANVIL = "anvil0"
UNUSED_SIGNALS = SimpleNamespace(SIGTERM=signal.SIGUSR1, SIGINT=signal.SIGUSR2)  # SIGTERM is the test's own
TABLES: dict[str, Any] = {
    "runtime": {**QUICK, "reconcile_s": 0.1, "lease_ttl_s": 3.0, "max_errors": MAX_ERRORS},
    "harvest": {"likeness": {"by_meaning": False, "by_words": False}},
    "hand_over": {"models_within_s": 0.1},
}


class Jobs:
    """Containers that end a moment after they were started, with the output that their job would have made."""

    def __init__(self) -> None:
        self._jobs: dict[str, ContainerInfo] = {}
        self.fences: dict[str, str] = {}

    async def start(self, spec: ContainerSpec) -> ContainerInfo:
        if spec.name not in self._jobs:
            self._jobs[spec.name] = ContainerInfo(
                name=spec.name, state=ContainerState.RUNNING, labels=spec.labels, started_at=time()
            )
            asyncio.get_running_loop().call_later(JOB_S, self._end, spec)
        return self._jobs[spec.name]

    def _end(self, spec: ContainerSpec) -> None:
        job = json.loads(Path(spec.command[-1]).read_text())
        if spec.name not in self._jobs or self._jobs[spec.name].state is ContainerState.EXITED:
            return
        (train if spec.labels["role"] == "trainer" else evaluate)(job, Path(job["output"]))
        self._finish(spec.name)

    def _finish(self, name: str) -> None:
        ended = {"state": ContainerState.EXITED, "finished_at": time(), "exit_code": 0}
        if name in self._jobs:
            self._jobs[name] = self._jobs[name].model_copy(update=ended)

    async def stop(self, name: str, grace_s: float) -> None:
        self._finish(name)

    async def kill(self, name: str) -> None:
        self._finish(name)

    async def inspect(self, name: str) -> ContainerInfo | None:
        return self._jobs.get(name)

    async def list(self, labels: dict[str, str]) -> list[ContainerInfo]:
        return [info for info in self._jobs.values() if labels.items() <= info.labels.items()]

    async def logs(self, name: str, tail: int = 100) -> str:
        return ""

    async def why_not_isolated(self) -> str | None:
        return None

    async def remove(self, name: str) -> None:
        self._jobs.pop(name, None)


def train(job: dict[str, Any], output: Path) -> None:
    adapter = output / "adapter"
    adapter.mkdir()
    config = {"peft_type": "LORA", "revision": job["ritual"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    conclude(output, TRAINING.model_dump(mode="json"))


def evaluate(job: dict[str, Any], output: Path) -> None:
    probes = tuple(probe(prompt) for prompt in PROMPTS)
    found = answered(job).model_copy(update={"probes": probes})
    (output / "results.json").write_text(found.model_dump_json())
    conclude(output, {})


def conclude(output: Path, result: dict[str, Any]) -> None:
    (output / RESULT_FILE).write_text(JobResult(ok=True, result=result).model_dump_json())


class Engine(FakeRune):
    """A rune for the orchestrator, and what it serves for the registry."""

    def __init__(self) -> None:
        super().__init__()
        self._loaded: set[str] = set()

    async def healthy(self) -> bool:
        return self.up

    async def start(self) -> None:
        await super().start()
        self._loaded.clear()

    async def models(self) -> frozenset[str]:
        return frozenset({"base", *self._loaded}) if self.up else frozenset()

    async def load(self, name: str, path: Path) -> None:
        self._loaded.add(name)

    async def unload(self, name: str) -> None:
        self._loaded.discard(name)

    async def answer(self, model: str, messages: object, max_tokens: int, salt: str | None = None) -> str:
        self.finished += 1
        return "a scribe" if model in self._loaded else "a base"

    async def answer_tokens(self, model: str, messages: object, max_tokens: int) -> tuple[TokenChoice, ...]:
        self.finished += 1
        tokens = (1, 2, 3) if model in self._loaded else (4, 5, 6)
        return tuple(TokenChoice(likeliest={token: 0.0, 0: -LEAD}) for token in tokens)

    async def admission(self) -> Admission:
        return Admission(state="open" if self.open_ else "closed", in_flight=0)


class FuzzedHouse:
    """The services, each started again when it ends; what a test asks of them."""

    def __init__(self, settings: Settings, pool: Pool, engine: Engine, jobs: Jobs) -> None:
        self.settings, self.pool, self.engine, self.jobs = settings, pool, engine, jobs
        self.restarts = 0
        self.slow_ends: list[str] = []
        self._running: dict[str, asyncio.Task[None]] = {}
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._keepers += [asyncio.create_task(self._keep(load_app(name))) for name in SERVICES]
        deadline = monotonic() + START_S
        while not await self.serves():
            if monotonic() > deadline:
                raise RuntimeError("the services do not start")
            await asyncio.sleep(POLL_S)

    async def _keep(self, app: App) -> None:
        """Run a service, as a supervisor does."""
        configuration, port = load_configuration(self.settings), service_port(self.settings, app.name)
        while True:
            faults.service.set(app.name)
            self._running[app.name] = asyncio.create_task(serve(app, self.settings, configuration, port, migrations()))
            await asyncio.wait([self._running[app.name]])
            self.restarts += 1
            await asyncio.sleep(RESTART_S)

    def stop_service(self, name: str) -> None:
        """End a service as SIGTERM does; note when it does not end."""
        task = self._running[name]
        task.cancel()
        asyncio.create_task(self._watch_end(name, task))  # noqa: RUF006 - it ends by itself

    async def _watch_end(self, name: str, task: asyncio.Task[None]) -> None:
        if task not in (await asyncio.wait([task], timeout=END_S))[0]:
            self.slow_ends.append(name)

    async def close(self) -> None:
        for task in (*self._keepers, *self._running.values()):
            task.cancel()
        await asyncio.gather(*self._keepers, *self._running.values(), return_exceptions=True)

    async def serves(self) -> bool:
        """Whether the engine is open, the anvil free, and nothing is left of a job."""
        free = await lease.get_lease(self.pool, ANVIL) is None
        return self.engine.up and self.engine.open_ and free and not await self.jobs.list({})

    async def intend(self) -> UUID:
        """Open a ritual, as the harvester does for an intent."""
        intent = TrainingIntent(persona="scribe")
        async with self.pool.acquire() as conn, conn.transaction():
            return await ledger.open_ritual(conn, intent, f"fuzz/{uuid4()}", None)

    async def ended(self, ritual: UUID, within_s: float) -> Ritual:
        """The ritual once it has ended and inference is back, or as it is when the time is over."""
        deadline = monotonic() + within_s
        while True:
            found = await ledger.get_ritual(self.pool, ritual)
            assert found
            if (found.state in ENDS and await self.serves()) or monotonic() > deadline:
                return found
            await asyncio.sleep(POLL_S)


@asynccontextmanager
async def fuzzed_house(house: House, folder: Path) -> AsyncIterator[FuzzedHouse]:
    """The five services over one engine and instant jobs; karma for every ritual is there."""
    models = folder / "models"
    named_base(models)
    settings = configured(house.settings, folder, **TABLES).model_copy(update={"models": models})
    pool = await open_pool(settings.database_url("harvester"), "harvester")
    await remember(pool, example("scribe"))
    engine, jobs = Engine(), Jobs()
    house_ = FuzzedHouse(settings, pool, engine, jobs)
    faults.on_stop(house_.stop_service)
    with (
        patch("services.orchestrator.anvil.open_containers", lambda *_: jobs),
        patch("services.orchestrator.anvil._open_runes", lambda *_: (engine,)),
        patch("services.orchestrator.anvil._open_accelerator", lambda *_: FakeMemory(engine)),
        patch("services.registry.reconcile.open_rune", lambda *_: engine),
        patch("shared.jobs.runner.open_containers", lambda *_: jobs),
        patch("shared.runtime.advance.FIRST_DELAY_S", 0.02),
        patch("shared.runtime.advance.PATIENCE_S", 0.2),
        patch("services.orchestrator.schedule.AWAKENED_WITHIN", timedelta(seconds=AWAKENED_WITHIN_S)),
        patch("shared.runtime.service.signal", UNUSED_SIGNALS),
    ):
        try:
            await house_.start()
            yield house_
        finally:
            await house_.close()
            with suppress(Exception):
                await pool.close()
