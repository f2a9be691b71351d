"""The real orchestrator as a process of its own, on real servers, over a small engine that fails on demand."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

from services.orchestrator.anvil import WORKERS
from shared.config.model import embedded
from shared.config.settings import PROJECT, Settings
from shared.config.tables import EMBEDDED_BASE
from shared.contracts.forge import AdapterFailed
from shared.contracts.harvest import KarmaHarvested
from shared.contracts.intent import TrainingIntent
from shared.drivers.containers.process import ProcessContainers
from shared.drivers.inference.open import open_gate
from shared.drivers.inference.port import InferenceError
from shared.drivers.inference.vllm import Vllm
from shared.ritual import ledger
from shared.ritual.ledger import FactType
from shared.storage.postgres import Pool, open_pool
from tests.support.fakes.fake_gate import fake_gates
from tests.support.services import play

RUNE = "rune-anvil0-rune"
POLL_S = 0.05

TOML = """
forge = "anvil0"
[runtime]
lease_ttl_s = 6.0
reconcile_s = 0.2
[hand_over]
models_within_s = 2
reclaim_grace_s = 5
[anvils.anvil0]
accelerator = "{accelerator}"
free_within_s = {free_within_s}
[runes.rune]
{what}
max_loras = 4
evacuation = "{evacuation}"
grace_s = {grace_s}
stop_grace_s = {stop_grace_s}
start_within_s = {start_within_s}
[covens.hearth]
anvil = "anvil0"
runes = ["rune"]
{more}
"""
SMALL_ENGINE = """
command = [{command}]
env = {{ PYTHONPATH = "{project}", FAKE_VLLM_FILE = "{faults}" }}
"""


class Orchestrated:
    """A stack of which only the orchestrator and its rune run; the test plays the other services."""

    def __init__(self, settings: Settings, pool: Pool, folder: Path) -> None:
        self.settings = settings.model_copy(update={"config": folder / "soulforge.toml"})
        self.pool = pool
        self.folder = folder
        self.faults = folder / "faults.json"
        self.process: asyncio.subprocess.Process | None = None
        self.containers = ProcessContainers(settings.containers_dir)
        self.rune = Vllm(embedded().rune_url(settings))
        self.gate = open_gate(settings, "rune")

    def configure(
        self,
        more: str = "",
        queues: str = "",
        grace_s: float = 5.0,
        stop_grace_s: float = 2.0,
        free_within_s: float = 2.0,
        start_within_s: float = 20.0,
        accelerator: str = "cpu",
        evacuation: str = "stop",
        real: bool = False,
        image: str | None = None,
    ) -> None:
        """Write soulforge.toml: the small engine, or the real vLLM where `real`."""
        words = (
            sys.executable,
            "-m",
            "tests.support.fakes.fake_vllm",
            "--uds",
            "{socket}",
            "--served-model-name",
            EMBEDDED_BASE,
        )
        engine = SMALL_ENGINE.format(
            command=", ".join(json.dumps(word) for word in words), project=PROJECT, faults=self.faults
        )
        text = TOML.format(
            what=(f'driver = "docker"\nimage = "{image}"' if image else "") if real else engine,
            grace_s=grace_s,
            stop_grace_s=stop_grace_s,
            free_within_s=free_within_s,
            start_within_s=start_within_s,
            accelerator=accelerator,
            evacuation=evacuation,
            more=(f"queues = {queues}\n" if queues else "") + more,
        )
        (self.folder / "soulforge.toml").write_text(text)

    def fail(self, **faults: Any) -> None:
        """What goes wrong from now on; see tests/support/fakes/fake_vllm.py."""
        self.faults.write_text(json.dumps(faults))

    async def start(self) -> None:
        log = (self.folder / "orchestrator.log").open("ab")
        env = {
            **os.environ,
            # Where the anvil is one of NVIDIA's, its library is the one of tests/support/fakes/nvml.
            "PYTHONPATH": str(PROJECT / "tests/support/fakes/nvml"),
            "FAKE_VLLM_FILE": str(self.faults),
            "SOULFORGE_HOME": str(self.settings.home),
            "SOULFORGE_PORT_BASE": str(self.settings.port_base),
            "SOULFORGE_CONFIG": str(self.settings.config),
            "SOULFORGE_MODELS": str(self.settings.models_dir),
        }
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "deploy.bootstrap", "orchestrator", env=env, stdout=log, stderr=log, cwd=PROJECT
        )
        log.close()

    async def kill(self, number: int = signal.SIGKILL) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        await self.process.wait()

    def pause(self) -> None:
        """Let the orchestrator see and do nothing for a while."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    async def serves(self) -> bool:
        """The rune answers, its admission is open, and no hand-over is left open."""
        try:
            if (await self.gate.admission()).closed or not await self.rune.healthy():
                return False
        except InferenceError:
            return False
        return not await self.pool.fetchval(
            "SELECT EXISTS (SELECT FROM orchestrator.hand_over WHERE restored_at IS NULL)"
        )

    async def harvested(self, name: str | None = None, priority: int = 5) -> UUID:
        """A ritual that waits for the anvil."""
        return await harvested(self.settings, name or uuid4().hex, priority)

    async def end(self, ritual: UUID) -> None:
        """The GPU work of a ritual is over, without an adapter."""
        found = await ledger.get_ritual(self.pool, ritual)
        assert found
        fact = AdapterFailed(ritual=ritual, persona="scribe", attempt=found.attempt, reason="the test ends it")
        async with self.pool.acquire() as conn, conn.transaction():
            assert await ledger.record_fact(conn, fact, "forge", datetime.now(UTC))

    async def state(self, ritual: UUID) -> str:
        found = await ledger.get_ritual(self.pool, ritual)
        assert found
        return str(found.state)

    async def fact(self, ritual: UUID, kind: type[FactType]) -> FactType | None:
        return await ledger.get_fact(self.pool, ritual, kind)

    async def contained(self) -> str | None:
        reason: str | None = await self.pool.fetchval("SELECT reason FROM orchestrator.containment")
        return reason

    def log(self) -> str:
        return (self.folder / "orchestrator.log").read_text()[-6000:]

    async def eventually(self, what: Callable[[], Awaitable[object]], within_s: float, name: str) -> None:
        deadline = monotonic() + within_s
        while not await what():
            if monotonic() > deadline:
                raise AssertionError(f"not within {within_s:.0f} s: {name}\n{self.log()}")
            if self.process and self.process.returncode not in (None, -signal.SIGKILL):
                raise AssertionError(f"the orchestrator ended: {self.process.returncode}\n{self.log()}")
            await asyncio.sleep(POLL_S)

    async def close(self) -> None:
        if self.process and self.process.returncode is None:
            await self.kill(signal.SIGTERM)
        for info in await self.containers.list({}):
            await self.containers.kill(info.name)
            await self.containers.remove(info.name)


def named_base(models: Path) -> None:
    """A base model of which there is only the name, for engines that read none."""
    (models / EMBEDDED_BASE).mkdir(parents=True)
    (models / EMBEDDED_BASE / "config.json").write_text("{}")


@asynccontextmanager
async def orchestrated(
    settings: Settings, folder: Path, models: Path | None = None, gateway: bool = False
) -> AsyncIterator[Orchestrated]:
    """`models`: where real base models are prepared; without it there is only the name of one.

    `gateway`: the test runs one; else there is a control socket like that of one.
    """
    pool = await open_pool(settings.database_url("orchestrator"), "orchestrator")
    if models is None:
        models = folder / "models"
        named_base(models)
    await play(pool, *WORKERS.values())
    house = Orchestrated(settings.model_copy(update={"models": models}), pool, folder)
    try:
        async with nullcontext() if gateway else fake_gates(settings.gateway_control_socket):
            yield house
    finally:
        await house.close()
        await pool.close()


async def harvested(settings: Settings, intent_id: str, priority: int = 5) -> UUID:
    """A ritual that waits for the anvil, as the harvester leaves it."""
    pool = await open_pool(settings.database_url("harvester"), "harvester", size=1)
    async with pool, pool.acquire() as conn, conn.transaction():
        intent = TrainingIntent(persona="scribe", priority=priority)
        ritual = await ledger.open_ritual(conn, intent, intent_id, None)
        fact = KarmaHarvested(
            ritual=ritual, persona="scribe", manifest="m", holdout="h", train=1, dev=1, held_out=1, seen=3, excluded={}
        )
        await ledger.record_fact(conn, fact, "harvester", datetime.now(UTC))
    return ritual
