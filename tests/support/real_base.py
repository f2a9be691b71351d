"""The real vLLM with versions in a real Crypt, and the gateway before it: in place of two small engines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from services.orchestrator.engine import Rune
from services.registry import views
from shared.config.model import embedded
from shared.config.settings import Settings
from shared.config.tables import EMBEDDED_BASE
from shared.contracts.probe import Probe
from shared.drivers.containers.process import ProcessContainers
from shared.drivers.inference.open import open_gate, open_rune
from shared.drivers.inference.vllm import Vllm
from shared.runtime.context import ServiceContext
from shared.storage.base_model import Bases
from shared.storage.postgres import Pool
from tests.support.adapters import save_adapter
from tests.support.configurations import configured
from tests.support.crypts import TwoBases
from tests.support.fakes.engines import until
from tests.support.gateway_process import gateway_process
from tests.support.gateways import serves
from tests.support.model import MODEL
from tests.support.probes import ask_probes
from tests.support.servers import House

START_S = 300.0
LEAST = 1.0  # a value that changes the base's answers


@dataclass(frozen=True, kw_only=True)
class RealBase(TwoBases):
    """One vLLM, which has the place of the engine `large`. `kill_gateway` returns once it is open again."""

    kill_gateway: Callable[[], Awaitable[None]]

    async def digest(self, base: str) -> str:
        return (await Bases(self.context.settings, self.context.configuration).get(EMBEDDED_BASE)).digest

    def fail(self, **faults: bool | float) -> None:
        """It has no faults on command."""

    def save_adapter(self, folder: Path, value: float) -> Path:
        return save_adapter(folder, LEAST + value)

    async def probes_of(self, version: str, adapter: Path) -> tuple[Probe, ...]:
        """What it answers with the adapter, as the evaluator would have measured it."""
        inference, name = self.engines["large"], f"probed-{version}"
        await inference.load(name, adapter)
        probes = await ask_probes(inference, EMBEDDED_BASE, name)
        await inference.unload(name)
        return probes

    async def assert_answers(self, crypt: Pool) -> None:
        """The gateway answers as the champion, and as no version that was withdrawn."""
        versions = await views.list_versions(crypt)
        serving = (await views.list_aliases(crypt)).get("scribe")
        if serving:
            await serves(self.context.settings.gateway_url, "scribe", serving)
        async with httpx.AsyncClient(base_url=self.context.settings.gateway_url, timeout=60) as client:
            for name in ("scribe", *(one.name for one in versions if "withdrawn" in one.roles)):
                body = {"model": name, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
                answer = await client.post("/v1/chat/completions", json=body)
                version = answer.headers.get("x-soulforge-adapter")
                assert version == (serving if name == "scribe" else None), answer.text
                assert name == "scribe" or answer.status_code == 403, answer.text


class Vllms:
    """One vLLM for the tests of a module, started for the first that needs it."""

    def __init__(self, settings: Settings) -> None:
        self.configuration, self.settings = embedded(), settings.model_copy(update={"models": MODEL.parent})
        inference = open_rune(self.configuration, self.settings, "rune")
        assert isinstance(inference, Vllm)
        containers = ProcessContainers(settings.containers_dir)
        self.inference, self._started = inference, False
        gate = open_gate(self.settings, "rune")
        self.rune = Rune("rune", self.settings, self.configuration, containers, inference, gate)

    async def start(self) -> None:
        """Return once it answers, and the gateway admits requests to it."""
        if not self._started:
            self._started = True
            await self.rune.start()
            await until(self.inference.healthy, START_S)
        assert await self.rune.open()

    async def stop(self) -> None:
        if self._started:
            await self.rune.stop()


@pytest.fixture(scope="module")
async def vllms(servers: House) -> AsyncIterator[Vllms]:
    one = Vllms(servers.settings)
    yield one
    await one.stop()


@asynccontextmanager
async def over_real_base(vllms: Vllms, crypt: Pool, pool: Pool, folder: Path) -> AsyncIterator[RealBase]:
    own = configured(vllms.settings, folder, gateway={"wait_s": 0})
    context = ServiceContext("registry", own, crypt, None, vllms.configuration)  # type: ignore[arg-type]
    async with gateway_process(own) as kill_gateway:
        await kill_gateway()
        await vllms.start()
        yield RealBase(
            context, pool, {"large": vllms.inference}, folder, folder / "faults.json", kill_gateway=kill_gateway
        )
